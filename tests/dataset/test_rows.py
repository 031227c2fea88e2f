"""Records of a user's file, whole ones and damaged ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from saliency_guard import InputError
from saliency_guard.dataset.rows import count_rows, load_question, read_rows


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, "PNG")
    return out.getvalue()


def written(folder: Path, *records: Any) -> Path:
    path = folder / "in.jsonl"
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records))
    return path


def test_records_have_their_id_or_their_place(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": "a"}, {"question": "What?"}, "", {"id": 7})
    rows = list(read_rows(path))
    assert [(row.number, row.id, row.problem) for row in rows] == [(0, "a", ""), (1, "2", ""), (2, "7", "")]
    assert count_rows(path) == 3


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{broken", "not a JSON object"),
        ("[1]", "not a JSON object but"),
        ('{"id": [1]}', "must be a text or a whole number"),
        ('{"id": ""}', "must be a text or a whole number"),
        ('{"id": "first"}', "record 1 has the same id"),
        ("[" * 100_000, "not a JSON object"),
        ('{"id": "\\ud800"}', "its id cannot be written in UTF-8"),
    ],
)
def test_a_damaged_record_says_what_is_wrong_and_the_next_one_is_read(tmp_path: Path, line: str, problem: str) -> None:
    rows = list(read_rows(written(tmp_path, {"id": "first"}, line, {"id": "last"})))
    assert [row.id for row in rows if not row.problem] == ["first", "last"]
    assert problem in rows[1].problem


def test_lines_in_another_encoding_are_damaged_records(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes('{"id": "é"}\n'.encode("latin-1") + b'{"id": "b"}\n')
    bad, good = read_rows(path)
    assert "not a JSON object" in bad.problem
    assert good.id == "b"


def test_pictures_are_loaded_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png())
    part = {"type": "image", "image": "red.png"}
    records = [
        {"question": "What?", "image": "red.png", "answer": "A cat."},
        {"question": "What?", "images": ["red.png", "data:image/png;base64,AAAA"]},
        {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]},
        {"messages": [{"role": "user", "content": "What?"}], "answer": None},
    ]
    first, second, third, fourth = (load_question(row, tmp_path) for row in read_rows(written(tmp_path, *records)))
    assert first.messages[0]["content"][0] == {"type": "image", "image": png()}
    assert first.answer == "A cat."
    assert [part["image"] for part in second.messages[0]["content"][:2]] == [png(), "data:image/png;base64,AAAA"]
    assert third.messages == [{**first.messages[0]}]
    assert fourth.messages == [{"role": "user", "content": "What?"}]
    assert fourth.answer is None


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"image": "red.png"}, "no question"),
        ({"question": "What?", "image": "none.png"}, "cannot read an image"),
        ({"question": "What?", "image": 3}, "must be a path"),
        ({"question": "What?", "images": "red.png"}, "must be a list"),
        ({"question": "What?", "image": "a", "images": ["b"]}, "give one of them"),
        ({"question": "What?", "messages": []}, "put all into messages"),
        ({"messages": "What?"}, "must be a list"),
        ({"question": "What?", "answer": 3}, "must be a text"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path: Path, record: dict[str, Any], problem: str) -> None:
    (row,) = read_rows(written(tmp_path, record))
    with pytest.raises(InputError, match=problem):
        load_question(row, tmp_path)


def test_parquet_with_pictures_inside(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "id": [f"r{number}" for number in range(70)],
        "question": ["What?"] * 70,
        "image": [{"bytes": png(), "path": None}] * 70,
        "elsewhere": list(range(70)),
    }
    path = tmp_path / "in.parquet"
    parquet.write_table(pa.table(columns), path)
    assert count_rows(path) == 70
    rows = list(read_rows(path))
    assert [row.id for row in rows] == columns["id"]
    assert load_question(rows[-1], tmp_path).messages[0]["content"][0]["image"] == png()
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="no parquet file"):
        list(read_rows(path))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.parquet"):
        with pytest.raises(InputError, match="cannot read"):
            list(read_rows(tmp_path / name))


def test_a_damaged_record_of_a_parquet_file_says_so_and_the_next_one_is_read(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xffc")])
    path = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"id": ["a", "b", "c"], "question": texts}), path)
    rows = list(read_rows(path))
    assert [row.content and row.content["question"] for row in rows] == ["a", None, "c"]
    assert "it cannot be read: 'utf-8' codec" in rows[1].problem


def test_a_parquet_file_that_is_damaged_inside_says_so(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "in.parquet"
    texts = [f"{number} {'a' * 800}" for number in range(5000)]
    parquet.write_table(pa.table({"question": texts}), path, compression="gzip", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[3000:3400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        list(read_rows(path))
