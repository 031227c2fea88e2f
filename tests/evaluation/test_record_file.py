"""Records written one by one: whole at the end, and a run that was cut off goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic

from saliency_guard import InputError, Records, VerifyConfig
from saliency_guard.evaluation.record_file import RecordFile, key_of


def empty(*, verify: VerifyConfig | None = None) -> Records:
    return Records(synthetic.FINGERPRINT, (), generation={"temperature": 0.0}, verify=verify)


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    records = synthetic.records(6).records
    path = tmp_path / "records.jsonl"
    first = RecordFile(path, empty())
    for record in records[:3]:
        first.add(record)
    with (tmp_path / "records.jsonl.part").open("a") as part:
        part.write('{"picture": "cut o')
    again = RecordFile(path, empty())
    assert again.done == {key_of(record) for record in records[:3]}
    assert not path.exists()
    for record in records[3:]:
        again.add(record)
    finished = again.finish()
    assert finished.records == records
    assert Records.load(path).records == records
    assert [file.name for file in tmp_path.iterdir()] == ["records.jsonl"]


def test_records_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    RecordFile(path, empty()).add(synthetic.records(1).records[0])
    with pytest.raises(InputError, match="another run"):
        RecordFile(path, empty(verify=VerifyConfig()))


def test_a_part_file_without_a_whole_line_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl.part").write_text('{"fingerp')
    assert RecordFile(tmp_path / "records.jsonl", empty()).done == frozenset()
