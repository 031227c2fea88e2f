"""Which of two pictures does a claim rest on? Compares shares of the saliency with the claims' own sources.

Uses pairs of scenes with one object each, given sentences, and the model's own answers. Takes about two minutes.
Run with ``python examples/measure_citations.py [SCENES]``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.scenes.scene import Scene, render, sample_scene
from saliency_guard.scenes.vocabulary import with_article

QUESTION = "Describe the image in detail."
FIRST_SEED = 41_000
THRESHOLD = 0.5


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


def word_of(scene: Scene) -> str:
    """The first word of its name."""
    return thing(scene).split()[0]


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
    given_correct, generated_correct, sources, false = [], [], [], []
    for pair in pairs(count):
        for scenes in (pair, pair[::-1]):
            images = [render(scene, 224).image for scene in scenes]
            messages = question_about(images)
            generated = lvlm.generate(messages)
            for right, scene in enumerate(scenes):
                text = f"The image shows {with_article(thing(scene))}."
                scored = lvlm.score(messages, text)
                (claim,) = scored.claims
                index = next(place for place, token in enumerate(scored.tokens) if token.text.strip() == word_of(scene))
                given_correct.append(picture_of_token(scored, index) == right)
                places = [place for place, token in enumerate(generated.tokens) if token.text.strip() == word_of(scene)]
                if places:
                    generated_correct.append(picture_of_token(generated, places[0]) == right)
                if claim.grounding is not None:
                    sources.append((claim.grounding >= THRESHOLD, claim.source == f"image_{right}"))
            denied = lvlm.score(messages, f"There is no {thing(pair[0])} in the image.").grounding
            absent = lvlm.score(messages, "The image shows a zebra.").grounding
            false += [value >= THRESHOLD for value in (denied, absent) if value is not None]
    print(f"share of the saliency, given sentences: right for {sum(given_correct)} of {len(given_correct)}")
    print(f"share of the saliency, own answers:     right for {sum(generated_correct)} of {len(generated_correct)}")
    accepted, right = sum(good for good, _ in sources), sum(good and source for good, source in sources)
    print(
        f"claims: {accepted} of {len(sources)} true ones accepted, the right picture named for {right} of them; ",
        end="",
    )
    print(f"{sum(false)} of {len(false)} false ones accepted")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
