"""Which of two pictures does a word rest on? Compares shares of the saliency with scoring each picture alone.

Uses pairs of scenes with one object each, given sentences, and the model's own answers. Takes about two minutes.
Run with ``python examples/measure_citations.py [SCENES]``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.scene import Scene, render, sample_scene
from saliency_guard.scenes.vocabulary import with_article

QUESTION = "Describe the image in detail."
FIRST_SEED = 41_000


def pairs(count: int) -> Iterator[tuple[Scene, Scene]]:
    """Pairs of neighbours among the first scenes with one object, where the objects differ."""
    scenes: list[Scene] = []
    seed = FIRST_SEED
    while len(scenes) < count:
        scene = sample_scene(seed)
        seed += 1
        if len(scene.objects) == 1:
            scenes.append(scene)
    for first, second in zip(scenes[::2], scenes[1::2], strict=False):
        if thing(first) != thing(second):
            yield first, second


def thing(scene: Scene) -> str:
    """The object of a scene."""
    return scene.objects[0].name


def question_about(images: list[Any]) -> list[dict[str, Any]]:
    """Messages that ask about pictures."""
    parts = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]


def picture_of_token(answer: GroundedAnswer, index: int) -> int:
    """The picture with the larger share of a token's saliency."""
    shares = answer.tokens[index].shares
    return int(shares["image_1"] > shares["image_0"])


def main(count: int = 60) -> None:
    """Measure and print."""
    lvlm = LVLM.load()
    given_correct, generated_correct, alone = [], [], []
    for pair in pairs(count):
        for scenes in (pair, pair[::-1]):
            images = [render(scene, 224).image for scene in scenes]
            messages = question_about(images)
            generated = lvlm.generate(messages)
            for right, scene in enumerate(scenes):
                text = f"The image shows {with_article(thing(scene))}."
                scored = lvlm.score(messages, text)
                index = next(place for place, token in enumerate(scored.tokens) if token.grounding is not None)
                given_correct.append(picture_of_token(scored, index) == right)
                word = thing(scene).split()[0]
                places = [place for place, token in enumerate(generated.tokens) if token.text.strip() == word]
                if places:
                    generated_correct.append(picture_of_token(generated, places[0]) == right)
                if scenes is pair:
                    singly = lvlm.score_batch([(chat(image, QUESTION), text) for image in images])
                    grounded = [bool((answer.tokens[index].grounding or 0.0) >= 0.5) for answer in singly]
                    alone.append((grounded[right], grounded[1 - right]))
    print(f"share of the saliency, given sentences: right for {sum(given_correct)} of {len(given_correct)}")
    print(f"share of the saliency, own answers:     right for {sum(generated_correct)} of {len(generated_correct)}")
    print(f"each alone: grounded in the right picture {sum(right for right, _ in alone)} of {len(alone)}, ", end="")
    print(f"in the wrong one {sum(wrong for _, wrong in alone)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
