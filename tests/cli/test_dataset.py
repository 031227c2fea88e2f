"""``score-dataset`` on files as users have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run
from PIL import Image

ASKED = "Is there a pizza in the image?"


@pytest.fixture
def answers(tmp_path: Path, picture: Image.Image) -> Path:
    picture.save(tmp_path / "scene.png")
    record = {"image": "scene.png", "question": ASKED}
    texts = ["No, there is no pizza in the image.", "It is there."]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({**record, "id": text[:2], "answer": text}) + "\n" for text in texts))
    return path


def test_a_file_is_scored(answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    said = run("score-dataset", str(answers), "--out", str(out))
    assert "2 records scored, 1 of them without a score, 0 set aside" in " ".join(said.split())
    records = [json.loads(line) for line in (out / "scores" / "part-00000.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == ["No", "It"]
    assert records[0]["report"]["score"] > 0.5
    assert records[1]["report"]["score"] is None
    assert "2 records scored" in run("score-dataset", str(answers), "--out", str(out))


def test_what_is_set_aside_has_its_own_exit_code(answers: Path, tmp_path: Path) -> None:
    answers.write_text(answers.read_text() + '{"id": "broken", "image": "none.png", "question": "What?"}\n')
    out = tmp_path / "scored"
    said = run("score-dataset", str(answers), "--out", str(out), code=1)
    assert "1 set aside" in " ".join(said.split())
    (broken,) = (out / "errors" / "part-00000.jsonl").read_text().splitlines()
    assert json.loads(broken)["id"] == "broken"


def test_parquet_in_is_parquet_out(answers: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    run("score-dataset", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "scored"))
    table = parquet.read_table(tmp_path / "scored" / "scores" / "part-00000.parquet")
    assert table.column("id").to_pylist() == ["No", "It"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "csv"], "none of: jsonl, parquet"),
        (["--report", "everything"], "report"),
        (["--policy", "none.json"], "cannot read a policy"),
        (["--engine", "dask"], "no engine"),
        (["--workers", "2"], "no effect"),
    ],
)
def test_wrong_options_are_said_before_the_work(
    answers: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    said = run("score-dataset", str(answers), "--out", str(tmp_path / "scored"), *options, code=2)
    assert message in " ".join(said.split())
    assert not (tmp_path / "scored").exists()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    said = run("score-dataset", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "scored"), code=2)
    assert "cannot read" in said
    assert "Traceback" not in said
