"""Questions to the model whether a statement about a picture is true."""

from __future__ import annotations

import random

from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.statements import KINDS, Kind, Statement, lowered, statement
from saliency_guard.scenes.words import pick
from saliency_guard.training.sheets import Branch, asked

ASKED = (
    "Is this true: {text}",
    "Is this true: {text}",
    "Is this true? {text}",
    "Is it true that {lowered}?",
    "True or false: {text}",
    "{text} Is that right?",
    "Is the following statement true? {text}",
    "Check this claim: {text}",
    "Statement: {text}\nDoes the image support the statement?",
    "Claim: {text}\nIs the claim right?",
    'Is "{text}" a true statement about the image?',
    "Does this sentence describe the image correctly? {text}",
    "{question}",
    "{question}",
    "{question}",
)
UNSEEN_ASKED = (
    "Is the following claim correct: {text}",
    "{text} True?",
    'Someone says: "{text}" Is the statement right?',
)
"""Forms used in evaluation only."""

TERSE = (" Answer yes or no.", " Answer with yes or no only.", " Yes or no?", " Say yes or no.")
_SHORT = 0.6
_LEARNT: tuple[Kind, ...] = (*KINDS, "number", "place", "relation", "relation", "relation")
"""Kinds as often as they are hard: which of two things is further left takes three looks."""


def put(made: Statement, form: str) -> str:
    """A statement as a question, in one of the forms."""
    return form.format(text=made.text, lowered=lowered(made.text).rstrip("."), question=made.question)


def make(scene: Scene, rng: random.Random, *, kinds: tuple[Kind, ...] = _LEARNT) -> Statement | None:
    """A statement of any of the kinds, equally often true and false; None where the scene allows none."""
    truth = rng.random() < 0.5
    for _ in range(6):
        made = statement(scene, rng, kinds[rng.randrange(len(kinds))], truth=truth)
        if made is not None:
            return made
    return None


def branch(scene: Scene, rng: random.Random) -> Branch | None:
    """A question whether a statement is true."""
    made = make(scene, rng)
    if made is None:
        return None
    form = put(made, pick(rng, ASKED))
    if rng.random() < 0.15:
        return asked(form + pick(rng, TERSE), "Yes." if made.truth else "No.")
    return asked(form, made.answer, short=rng.random() < _SHORT)
