"""Which of two pictures does a word rest on: by saliency when both are there, and by a look at each alone.

Pairs of scenes with one thing each; sentences that are told, and what the model writes itself. About two minutes.
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
    """Neighbours among the first scenes that show one thing, where the things differ."""
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
    """What a scene shows."""
    return scene.objects[0].name


def both(images: list[Any]) -> list[dict[str, Any]]:
    """A question about two pictures."""
    parts = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]


def looked_at(answer: GroundedAnswer, index: int) -> int:
    """The picture with the larger share of a token."""
    shares = answer.tokens[index].shares
    return int(shares["image_1"] > shares["image_0"])


def main(count: int = 60) -> None:
    """Measure and print."""
    lvlm = LVLM.load()
    told, written, alone = [], [], []
    for pair in pairs(count):
        for scenes in (pair, pair[::-1]):
            images = [render(scene, 224).image for scene in scenes]
            messages = both(images)
            own = lvlm.generate(messages)
            for right, scene in enumerate(scenes):
                text = f"The image shows {with_article(thing(scene))}."
                scored = lvlm.score(messages, text)
                index = next(place for place, token in enumerate(scored.tokens) if token.grounding is not None)
                told.append(looked_at(scored, index) == right)
                first = thing(scene).split()[0]
                at = next((place for place, token in enumerate(own.tokens) if token.text.strip() == first), None)
                if at is not None:
                    written.append(looked_at(own, at) == right)
                if scenes is pair:
                    found = lvlm.score_batch([(chat(image, QUESTION), text) for image in images])
                    grounds = [bool((one.tokens[index].grounding or 0.0) >= 0.5) for one in found]
                    alone.append((grounds[right], grounds[1 - right]))
    print(f"share of the saliency, told sentences: right for {sum(told)} of {len(told)}")
    print(f"share of the saliency, its own words:  right for {sum(written)} of {len(written)}")
    print(f"alone: grounded by the right picture {sum(one for one, _ in alone)} of {len(alone)}, ", end="")
    print(f"by the wrong one {sum(other for _, other in alone)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
