"""A user's own labelled answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saliency_guard import InputError
from saliency_guard.claims.extract import EnglishClaims
from saliency_guard.evaluation.labelled import LabelledAnswer, read_labelled, truths


def answer(text: str, *mentions: tuple[str, bool], grounded: bool = False) -> LabelledAnswer:
    marked = [{"text": piece, "grounded": truth} for piece, truth in mentions]
    return LabelledAnswer.model_validate(
        {"image": "a.png", "question": "What is there?", "answer": text, "grounded": grounded, "mentions": marked}
    )


def test_claims_have_the_truth_of_the_mentions_they_overlap() -> None:
    text = "There are two cats and a dog on the left."
    labelled = answer(text, ("cats", True), ("dog on the left", False))
    claims = EnglishClaims()(text, "")
    found = {
        text[claim.start : claim.stop]: truth for claim, truth in zip(claims, truths(claims, labelled), strict=True)
    }
    assert found == {"two": None, "cats": True, "dog": False, "on the left": False}


def test_where_all_is_true_every_claim_is() -> None:
    text = "There are two cats."
    claims = EnglishClaims()(text, "")
    assert truths(claims, answer(text, ("cats", True), grounded=True)) == (True, True)
    assert truths(claims, answer(text, grounded=True)) == (None, None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 1"),
        ({"image": "a.png"}, "line 1: question"),
        (
            {
                "image": "a",
                "question": "b",
                "answer": "c",
                "grounded": True,
                "mentions": [{"text": "d", "grounded": True}],
            },
            "the mention 'd' is not in the answer",
        ),
        ("", "holds no labelled answers"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, row: object, message: str) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text(row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(InputError, match=message):
        read_labelled(path)
