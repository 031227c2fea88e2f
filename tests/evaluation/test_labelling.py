"""What an answer claims, and whether it is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saliency_guard import LVLM, InputError
from saliency_guard.evaluation.labelling import read_labelled, world_questions, write_records
from saliency_guard.evaluation.world import pictures


def test_what_is_asked_of_a_scene_and_how_it_is_labelled(lvlm: LVLM) -> None:
    (one,) = pictures("development", 1)
    asked = world_questions(one)
    assert [question.question.split()[0] for question in asked] == ["Describe", "Is", "Is", "How"]
    found = list(write_records(lvlm, asked, draws=2))
    assert [record.draw for record in found] == [0, 0, 0, 0, 1, 1, 1, 1]
    for record in found:
        assert record.picture == str(one.scene.seed)
        assert {mention.token for mention in record.mentions} <= set(record.counted)
        assert record.grounded == (bool(record.mentions) and all(mention.grounded for mention in record.mentions))
    described = [mention for record in found if record.question.startswith("Describe") for mention in record.mentions]
    assert described
    assert all(mention.grounded == (mention.name in one.scene.counts) for mention in described)
    assert list(write_records(lvlm, asked, draws=2)) == found


def test_answers_from_elsewhere_are_true_half_of_the_time_and_labelled_so(lvlm: LVLM) -> None:
    asked = [question for one in pictures("development", 12) for question in world_questions(one)]
    found = list(write_records(lvlm, asked, draws=0, told=True))
    assert {record.draw for record in found} == {-1}
    assert [record.answer.text for record in found] == [question.told for question in asked]
    assert 0.3 < sum(record.grounded for record in found) / len(found) < 0.7
    assert all(record.mentions for record in found)


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
        ("", "has no labelled answers"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, row: object, message: str) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text(row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(InputError, match=message):
        read_labelled(path)
