"""The folder of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saliency_guard import InputError
from saliency_guard.adapters.report import answer_report
from saliency_guard.dataset.scoring import Scored
from saliency_guard.dataset.shards import SetAside, Shard, ShardFolder

SETTINGS = {"model": "m", "seed": 0}


def scored(name: str) -> Scored:
    return Scored(id=name, text="A dog.", model="m", report=answer_report(None))


def test_a_shard_is_done_when_its_line_is_written(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, SETTINGS, "jsonl")
    assert folder.done == {}
    folder.write(1, [scored("a")], [SetAside(id="b", record=2, error="InputError", message="wrong")])
    with (tmp_path / "shards.jsonl").open("a") as file:
        file.write('{"shard": 2, "sco')
    again = ShardFolder(tmp_path, SETTINGS, "jsonl")
    assert again.done == {1: Shard(shard=1, scored=1, unscored=1, set_aside=1)}
    again.write(0, [], [])
    assert set(ShardFolder(tmp_path, SETTINGS, "jsonl").done) == {0, 1}
    (line,) = (tmp_path / "scores" / "part-00001.jsonl").read_text().splitlines()
    assert Scored.model_validate_json(line) == scored("a")
    assert json.loads((tmp_path / "errors" / "part-00001.jsonl").read_text())["message"] == "wrong"
    assert (tmp_path / "errors" / "part-00000.jsonl").read_text() == ""


def test_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    ShardFolder(tmp_path, SETTINGS, "jsonl")
    with pytest.raises(InputError, match=r"other settings \(format, seed\)"):
        ShardFolder(tmp_path, {**SETTINGS, "seed": 1}, "parquet")
    (tmp_path / "run.json").write_text("[")
    with pytest.raises(InputError, match="no settings of an earlier run"):
        ShardFolder(tmp_path, SETTINGS, "jsonl")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        ShardFolder(tmp_path / "file" / "out", SETTINGS, "jsonl")


def test_results_as_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = ShardFolder(tmp_path, SETTINGS, "parquet")
    folder.write(0, [scored("a"), scored("b")], [])
    folder.write(1, [], [])
    table = parquet.read_table(tmp_path / "scores" / "part-00000.parquet")
    assert table.column("id").to_pylist() == ["a", "b"]
    assert table.column("score").to_pylist() == [None, None]
    assert json.loads(table.column("report")[0].as_py()) == answer_report(None)
    empty = parquet.read_table(tmp_path / "scores" / "part-00001.parquet")
    assert empty.schema == table.schema
