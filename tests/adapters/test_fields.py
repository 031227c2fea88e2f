"""Fields of structured answers, as sentences."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from saliency_guard.adapters.fields import fields_text


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
    assert fields_text(scene) == "A dog is on the left. name: dog. legs: 4. name: cat. legs: 3."
    assert fields_text({"is_open": False, "text": "It is a shop."}) == "is open: False. It is a shop."


def test_an_object_without_fields_says_nothing() -> None:
    assert fields_text({"name": None, "parts": []}) == ""
