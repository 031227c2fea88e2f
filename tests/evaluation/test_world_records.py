"""Records of the picture world: single scenes and several in one prompt, resumed where they were cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from saliency_guard import LVLM
from saliency_guard.calibration.records import Records
from saliency_guard.evaluation.labelling import Looking
from saliency_guard.evaluation.record_file import RecordFile
from saliency_guard.evaluation.world_records import WorldRun, empty_records, generation, world_records

LOOKING = Looking(vectors=False)
# One process for all: the records are made once.
pytestmark = pytest.mark.xdist_group("world records")
RUN = WorldRun(split="development", scenes=2, several=1, given=True, max_new_tokens=8)


@pytest.fixture(scope="module")
def calls() -> list[None]:
    return []


@pytest.fixture(scope="module")
def records(lvlm: LVLM, calls: list[None]) -> Records:
    return world_records(lvlm, RUN, looking=LOOKING, on_answer=lambda: calls.append(None))


def test_single_scenes_and_several_in_one_prompt(records: Records, calls: list[None]) -> None:
    assert len(records) == len(calls) == RUN.answers == 2 * 4 * 2 + 3 * 4 * 2
    assert {record.pictures for record in records} == {1, 2, 3, 4}
    assert len({record.picture for record in records}) == 2 + 3
    assert records.verify == LOOKING.verify
    assert records.generation["temperature"] == 0.0


def test_what_is_in_the_file_is_not_made_again(lvlm: LVLM, records: Records, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    file = RecordFile(path, empty_records(lvlm, LOOKING, generation(RUN)))
    for record in records.records[:20]:
        file.add(record)
    again = world_records(
        lvlm, RUN, looking=LOOKING, file=RecordFile(path, empty_records(lvlm, LOOKING, generation(RUN)))
    )
    assert set(map(repr, again)) == set(map(repr, records))


def test_answers_about_text_documents_have_no_picture_and_what_is_given_is_labelled(lvlm: LVLM) -> None:
    run = WorldRun(split="development", scenes=0, documents=6, max_new_tokens=12)
    calls: list[None] = []
    records = world_records(lvlm, run, looking=LOOKING, on_answer=lambda: calls.append(None))
    assert len(records) == len(calls) == run.answers == 12
    assert {record.draw for record in records} == {0, -1}
    for record in records:
        assert (record.pictures, record.domain) == (0, ())
        assert min(record.document_lengths) > 0
    given = [record for record in records if record.draw == -1]
    assert {record.grounded for record in given} == {True, False}
    assert any(claim.verified is not None for record in records for claim in record.claims)
    assert any(claim.grounded is not None for record in records if record.draw == 0 for claim in record.claims)


def test_scenes_that_are_drawn_otherwise(lvlm: LVLM) -> None:
    run = WorldRun(split="development", scenes=1, redrawn=2, given=True, max_new_tokens=8)
    records = world_records(lvlm, run, looking=LOOKING)
    assert len(records) == run.answers == 3 * 4 * 2
    redrawn = [record for record in records if record.redrawn]
    assert len(redrawn) == 16
    assert all(record.picture.endswith(" redrawn") for record in redrawn)
    assert not {record.picture for record in records.usual} & {record.picture for record in redrawn}
