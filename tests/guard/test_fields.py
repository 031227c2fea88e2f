"""Fields of structured answers, as sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import BaseModel

from saliency_guard import LVLM
from saliency_guard.adapters.scorer import LocalScorer
from saliency_guard.chat.messages import chat
from saliency_guard.guard.fields import JudgedText
from saliency_guard.scenes.language import DESCRIBE


class Animal(BaseModel):
    name: str
    legs: int
    owner: str | None = None


@dataclass
class Scene:
    caption: str
    animals: list[Animal]


def test_every_field_is_a_claim() -> None:
    scene = Scene("A dog is on the left", [Animal(name="dog", legs=4), Animal(name="cat", legs=3)])
    judged = JudgedText.of("", scene)
    assert judged.text == "A dog is on the left. name: dog. legs: 4. name: cat. legs: 3."
    assert judged.fields == ("A dog is on the left.", "name: dog.", "legs: 4.", "name: cat.", "legs: 3.")
    beside = JudgedText.of(" Look! ", {"is_open": False, "text": "It is a shop."}, {}, {"n": 1})
    assert beside.text == "Look! is open: False. It is a shop. n: 1."


def test_an_object_without_fields_says_nothing() -> None:
    assert JudgedText.of("", {"name": None, "parts": []}) == JudgedText("")


def test_a_field_that_makes_no_claim_leaves_the_answer_without_a_grounding(lvlm: LVLM) -> None:
    """ "left" as an argument claims something that nobody judged."""
    messages = chat("examples/pictures/dog.png", DESCRIBE)
    scorer, said = LocalScorer(lvlm), "The image shows a dog."
    assert scorer.score(messages, JudgedText.of(said, {"what": "It is a dog."})).grounding is not None
    for arguments in ({"where": "left"}, {"what": "It is a dog.", "where": "left"}, {"where": "left", "is": "a dog"}):
        answer = scorer.score(messages, JudgedText.of(said, arguments))
        assert answer.grounding is None
        assert re.search("makes no claim|claim of a kind", answer.grounding_reason or "")
        assert answer.claims[0].grounding is not None
