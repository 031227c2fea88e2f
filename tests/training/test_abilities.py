"""The measures count what they say; what the shipped model reaches is in its card."""

from __future__ import annotations

from typing import Any

import pytest

from saliency_guard import LVLM
from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.scene import Scene, SceneObject, sample_scene
from saliency_guard.training import abilities
from saliency_guard.verifier import Verified, Verifier


def thing(name: str, x: float, y: float) -> SceneObject:
    return SceneObject(name, "", x, y, 0.2, 0.0, mirrored=False, tint=(1.0, 1.0, 1.0))


SCENE = Scene(0, "noto", "farm", (thing("apple", 0.1, 0.5), thing("dog", 0.9, 0.1), thing("dog", 0.9, 0.9)))


def test_details_of_captions_are_counted_where_the_thing_is_there() -> None:
    right = abilities.caption_details(["The image shows two dogs and an apple. The apple is on the left."], [SCENE])
    assert right == {
        "all": 1.0, "numbers": 1.0, "numbers_above_one": 1.0, "places": 1.0, "articles_wrong": 0.0,
    }  # fmt: skip
    wrong = abilities.caption_details(
        ["In the image, there are three dogs and a apple. The apple is at the top. The zebra is on the left."], [SCENE]
    )
    assert wrong["numbers"] == wrong["places"] == wrong["numbers_above_one"] == 0.0
    assert wrong["articles_wrong"] == 1.0


def test_sides_are_judged_by_where_things_are() -> None:
    scene = Scene(0, "noto", "farm", (thing("apple", 0.1, 0.5), thing("cat", 0.9, 0.1)))
    text = "The image shows a cat and an apple. The apple is to the {} of the cat."
    assert abilities.caption_details([text.format("left")], [scene])["sides"] == 1.0
    assert abilities.caption_details([text.format("right")], [scene])["sides"] == 0.0


def test_unseen_forms_are_filled_for_their_scene() -> None:
    import random

    scene = next(scene for seed in range(50) if len((scene := sample_scene(seed)).counts) > 2)
    filled_forms = abilities.unseen_forms(scene, random.Random(1))
    lists = [field.value for filled in filled_forms for field in filled if field.schema["type"] == "array"]
    assert lists
    assert all(set(names) == set(scene.counts) for names in lists)


@pytest.mark.parametrize(
    "measure",
    [
        abilities.statements_told, abilities.other_words, abilities.several_shown, abilities.tools_called,
        abilities.documents_read, abilities.follow_ups,
    ],
)  # fmt: skip
def test_a_measure_is_the_same_again_and_a_part_of_all(lvlm: LVLM, measure: object) -> None:
    shown = list(pictures("development", 8))
    found = measure(lvlm, shown)  # type: ignore[operator]
    assert found
    assert all(0.0 <= value <= 1.0 for value in found.values())
    assert found == measure(lvlm, shown)  # type: ignore[operator]


def test_forms_and_blanks_are_measured(lvlm: LVLM) -> None:
    pytest.importorskip("llguidance")
    shown = list(pictures("development", 2))
    filled = abilities.forms_filled(lvlm, shown)
    assert {"keys", "whole forms"} <= set(filled)
    seen = abilities.nothing_seen(lvlm, shown, 500_000)
    assert seen["scenes"] == 1.0  # It sees something in every scene.


def test_claims_about_documents_are_asked_about_in_the_models_own_words(
    lvlm: LVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = abilities.documents_verified(lvlm, 12)
    assert set(measured) - {"all", "answered"} <= {"year", "number", "place", "name", "word"}
    assert all(0.0 <= value <= 1.0 for value in measured.values())

    def knowing(self: Verifier, conversation: Any, session: Any, statements: Any) -> list[Verified]:
        text = conversation.texts[0].text
        return [Verified(0.9 if statement in text else 0.1) for statement, _ in statements]

    monkeypatch.setattr(Verifier, "verify", knowing)
    assert set(abilities.documents_verified(lvlm, 12).values()) == {1.0}
