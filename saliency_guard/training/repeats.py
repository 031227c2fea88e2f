"""Texts to be repeated, and texts that have nothing to do with the question."""

from __future__ import annotations

import random

from saliency_guard.scenes import documents
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.words import coined, jumble, pick, preamble, sentence, value
from saliency_guard.training import single
from saliency_guard.training.frames import start
from saliency_guard.training.sheets import ASSISTANT, IMAGE, Branch, Sheet, opening, sheet

REPEATED = (
    "Repeat: {text}",
    "Repeat this text: {text}",
    "Say it again: {text}",
    "Write this down: {text}",
    "Copy the text below.\n{text}",
    "{text}\nWhat does the text say?",
    "{text}\nRepeat what I said.",
    "The user says: {text} What does the user say?",
)


def repeating(rng: random.Random) -> Sheet:
    """Texts to be repeated: nothing else teaches so fast to find again what stands in the prompt."""
    branches = []
    for _ in range(5):
        text = jumble(rng, rng.randint(3, 24)) if rng.random() < 0.5 else _telling(rng)
        branches.append(Branch(f" {pick(rng, REPEATED).format(text=text)}\n{ASSISTANT}", text))
    return sheet(start(rng, 0.1).rstrip(), branches)


def _telling(rng: random.Random) -> str:
    pieces = [rng.choice((documents.fact(rng).sentence, sentence(rng), f"{coined(rng)}: {value(rng)}."))]
    while rng.random() < 0.45:
        pieces.append(rng.choice((documents.fact(rng).sentence, f"{coined(rng)} {coined(rng)} {value(rng)}.")))
    return " ".join(pieces)


def long_preamble(scene: Scene, rng: random.Random) -> Sheet:
    """A picture behind, or before, a great deal of text that has nothing to do with it."""
    text = preamble(rng, rng.randint(8, 40))
    if rng.random() < 0.5:
        return sheet(f"<s>{text}\nUSER: {IMAGE}\n", single.about(scene, rng)[:6])
    branches = [
        Branch(f"\n{each.prompt}", each.answer, each.silent, each.short) for each in single.about(scene, rng)[:6]
    ]
    return sheet(f"{opening()}{text}", branches)
