"""Records made in pieces, in whatever order they come: the same as one process makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from saliency_guard import LVLM, ModelError
from saliency_guard.engines.engine import Engine, LocalEngine, Lost
from saliency_guard.evaluation import engine_records, labelling
from saliency_guard.evaluation.engine_records import (
    Writing,
    empty_records,
    labelled_answers_records,
    written_records,
)
from saliency_guard.evaluation.labelled import read_labelled
from saliency_guard.evaluation.labelling import Looking
from saliency_guard.evaluation.questions import Question, world_questions
from saliency_guard.evaluation.record_file import key_of
from saliency_guard.evaluation.world import pictures

LOOKING = Looking(vectors=False, verify=None)
WRITING = Writing(draws=2, given=True, max_new_tokens=8)


class Backwards(Engine):
    """Works on the last batch first, as a cluster may."""

    def __init__(self, lvlm: LVLM) -> None:
        self._lvlm = lvlm

    def map(self, work, batches):
        for number, batch in reversed(list(enumerate(batches))):
            yield number, list(work(self._lvlm, batch))

    def __exit__(self, *_: object) -> None: ...


class Deadly(Backwards):
    """Loses every item."""

    def map(self, work, batches):
        for number, batch in enumerate(batches):
            yield number, [Lost("2 workers died") for _ in batch]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """Some that make two batches."""
    for module in (engine_records, labelling):
        monkeypatch.setattr(module, "BATCH", 4)
    return [question for picture in pictures("development", 2) for question in world_questions(picture)][:6]


def test_written_records_are_the_same_on_every_engine(lvlm: LVLM, questions: list[Question]) -> None:
    counted: list[None] = []
    local = list(written_records(LocalEngine(lvlm), questions, WRITING, looking=LOOKING))
    pieces = list(
        written_records(Backwards(lvlm), questions, WRITING, looking=LOOKING, on_answer=lambda: counted.append(None))
    )
    assert {key_of(record): record for record in local} == {key_of(record): record for record in pieces}
    assert len(local) == len(pieces) == len(counted) == 3 * len(questions)
    assert pieces[0] != local[0]


def test_what_is_there_is_not_made_again(lvlm: LVLM, questions: list[Question]) -> None:
    first = questions[:3]
    made = list(written_records(Backwards(lvlm), first, WRITING, looking=LOOKING))
    keys = {key_of(record) for record in made}
    counted: list[None] = []
    again = written_records(
        Deadly(lvlm), first, WRITING, looking=LOOKING, done=keys, on_answer=lambda: counted.append(None)
    )
    assert list(again) == []
    assert len(counted) == 9
    missing = keys - {key_of(made[4])}
    (record,) = written_records(Backwards(lvlm), first, WRITING, looking=LOOKING, done=missing)
    assert record == made[4]


def test_a_batch_that_ends_every_worker_ends_the_run(lvlm: LVLM, questions: list[Question]) -> None:
    with pytest.raises(ModelError, match="2 workers died"):
        list(written_records(Deadly(lvlm), questions[:2], WRITING, looking=LOOKING))


def test_answers_from_a_file(lvlm: LVLM, tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "scene.png")
    row = {"image": "scene.png", "question": "What is there?", "answer": "A red cat.", "grounded": False}
    (tmp_path / "in.jsonl").write_text("\n".join([json.dumps(row), json.dumps({**row, "answer": "A dog."})]))
    answers = read_labelled(tmp_path / "in.jsonl")
    local = list(labelled_answers_records(LocalEngine(lvlm), answers, tmp_path, looking=LOOKING))
    pieces = list(labelled_answers_records(Backwards(lvlm), answers, tmp_path, looking=LOOKING))
    assert local == pieces
    assert [record.question for record in local] == ["What is there?", "What is there? (2)"]
    done = {key_of(local[0])}
    assert list(labelled_answers_records(Backwards(lvlm), answers, tmp_path, looking=LOOKING, done=done)) == local[1:]


def test_whose_records_they_are_is_asked_of_a_worker(lvlm: LVLM) -> None:
    own = empty_records(lvlm, LOOKING, {"temperature": 0.0})
    other = empty_records(Backwards(lvlm), LOOKING, {"temperature": 0.0})
    assert own.header() == other.header()
