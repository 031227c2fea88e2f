"""Questions whose answers can be checked, and what a claim of an answer is worth."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from saliency_guard.claims.extract import EnglishClaims
from saliency_guard.evaluation.files import CocoImage, PopeQuestion
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.questions import (
    caption_questions,
    picture_name,
    pope_questions,
    several_questions,
    world_questions,
)
from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.claims import world_claims


def image(folder: Path, name: str = "a.png") -> Path:
    path = folder / name
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_what_is_asked_of_a_scene(tmp_path: Path) -> None:
    (picture,) = pictures("development", 1)
    questions = world_questions(picture)
    assert [question.question.split()[0] for question in questions] == ["Describe", "Is", "Is", "How"]
    for question in questions:
        truths = [question.check(claim) for claim in world_claims(question.given, question.question)]
        assert truths
        assert None not in truths


def test_several_scenes_are_asked_about_by_their_numbers() -> None:
    shown = list(pictures("development", 4))
    for question in several_questions(shown):
        assert "picture" in question.question
        truths = [question.check(claim) for claim in world_claims(question.given, question.question)]
        assert truths
        assert None not in truths


@pytest.mark.parametrize(
    ("answer", "truths"),
    [
        ("Yes", [True]),
        ("No", [False]),
        ("Yes, there is a cat in the image.", [True, True]),
        ("Yes, there are several cats in the image.", [True, True]),
        ("Yes, there are cats in the image.", [True, True]),
        ("No, there are no cats visible in the picture.", [False, False]),
        ("Yes, there are dogs in the image.", [True, None]),
        ("Yes, there are cats sleeping on sofas.", [True, None]),
        ("No, there is no cat.", [False, False]),
        ("There is a cat.", [True]),
        ("Yes, there is a cat beside a dog.", [True, True, None]),
    ],
)
def test_pope_checks_answers_in_sentences(tmp_path: Path, answer: str, truths: list[bool | None]) -> None:
    (asked,) = pope_questions([PopeQuestion("1", image(tmp_path), "Is there a cat in the image?", truth=True)])
    claims = [claim for claim in EnglishClaims()(answer, asked.question) if claim.kind != "place"]
    assert [asked.check(claim) for claim in claims] == truths


def test_coco_knows_what_is_annotated_and_nothing_else(tmp_path: Path) -> None:
    pictured = CocoImage("1", image(tmp_path), frozenset({"cat", "dog"}))
    (asked,) = caption_questions([pictured], ObjectVocabulary.coco(), "Describe.")
    text = "There are two cats, a red car and a dog house on the left. There is no dog."
    truths = {text[claim.start : claim.stop]: asked.check(claim) for claim in EnglishClaims()(text, asked.question)}
    assert truths["cats"] is True
    assert truths["red car"] is False
    assert truths["dog house"] is None
    assert truths["two"] is None
    assert truths["no dog"] is False


def test_a_picture_is_named_by_its_content(tmp_path: Path) -> None:
    assert picture_name(image(tmp_path)) == picture_name(image(tmp_path, "b.png"))
