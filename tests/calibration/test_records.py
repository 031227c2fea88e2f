"""Labelled records: written and read back, and what is wrong with a file is said with its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic

from saliency_guard import InputError, Records
from saliency_guard.calibration.records import decoded, encoded

CLAIM = {"kind": "object", "start": 0, "stop": 3, "tokens": [99]}


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    written = synthetic.records(5, draws=2)
    written.save(tmp_path / "records.jsonl")
    found = Records.load(tmp_path / "records.jsonl")
    assert found.fingerprint == written.fingerprint
    assert found.records == written.records
    assert len(found) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_vectors_are_half_precision() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 7))
    np.testing.assert_allclose(decoded(encoded(rows), 4), rows, rtol=1e-3)
    assert np.isfinite(decoded(encoded(np.array([[1e9, -1e9]])), 1)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:0], "empty"),
        (lambda lines: lines[1:], "line 1: expected the fingerprint"),
        (lambda lines: [lines[0], "{"], "line 2"),
        (lambda lines: [lines[0], lines[1].replace('"grounded"', '"grown"')], "line 2"),
        (lambda lines: [*lines, "nonsense"], "line 4"),
        (
            lambda lines: [lines[0], json.dumps({**json.loads(lines[1]), "claims": [CLAIM]})],
            "line 2: there is no token 99",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "records.jsonl"
    synthetic.records(2).save(path)
    path.write_text("\n".join(change(path.read_text().splitlines())))  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        Records.load(path)


def test_a_missing_file_and_damaged_vectors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Records.load(tmp_path / "none.jsonl")
    one = synthetic.records(1).records[0]
    with pytest.raises(InputError, match="damaged"):
        one.model_copy(update={"vectors": {"saliency": "!!"}}).features(("saliency",))
    with pytest.raises(InputError, match="make the records anew"):
        one.model_copy(update={"vectors": {}}).features(("signals", "saliency"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"grounding":null', '"grounding":NaN', "line 2: NaN is no finite number"),
        ('"grounding":null', '"grounding":1e999', "line 2: 1e999 is no finite number"),
        ('"grounding":null', '"grounding":1.5', "line 2: answer.*grounding"),
        ('"grounding":null', '"grounding":-0.1', "line 2: answer.*grounding"),
        ('"shares":{}', '"shares":{"image_0":-1.0}', "line 2: answer.*shares"),
        ('"draw":0', '"draw":0,"draw":1', "line 2: 'draw' is named twice"),
        ('"model_id":"made up"', '"model_id":"made up","model_id":"another"', "line [12]"),
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = tmp_path / "records.jsonl"
    synthetic.records(1).save(path)
    head, line = path.read_text().splitlines()
    assert before in line
    path.write_text(f"{head}\n{line.replace(before, after, 1)}\n")
    with pytest.raises(InputError, match=said):
        Records.load(path)


def test_a_prompt_has_pictures_or_documents() -> None:
    (record,) = synthetic.document_records(1, documents=2)
    assert (record.pictures, record.documents) == (0, 2)
    again = type(record).model_validate_json(record.model_dump_json())
    assert again == record
    np.testing.assert_allclose(again.features(("verification",))[:, 2], np.log(2))
    with pytest.raises(ValueError, match="neither pictures nor text documents"):
        type(record).model_validate({**record.model_dump(), "document_lengths": ()})


def test_usual_and_redrawn_pictures(tmp_path: Path) -> None:
    usual = synthetic.records(4)
    redrawn = usual.where([True, False, True, False])
    redrawn = Records(
        redrawn.fingerprint,
        [record.model_copy(update={"redrawn": True, "picture": f"{record.picture} redrawn"}) for record in redrawn],
    )
    both = usual.joined(redrawn)
    assert len(both) == 6
    assert both.fingerprint == usual.fingerprint
    assert list(both.usual) == list(usual)
    both.save(tmp_path / "records.jsonl")
    again = Records.load(tmp_path / "records.jsonl")
    assert list(again) == list(both)
    assert [record.redrawn for record in again] == [False] * 4 + [True] * 2


def test_how_surely_pictures_are_recognised_is_a_group_where_it_was_recorded() -> None:
    (record,) = synthetic.records(1)
    domain = np.arange(20.0)
    known = record.model_copy(update={"domain": (encoded(domain),)})
    assert "recognised" in known.groups - record.groups
    np.testing.assert_array_equal(known.features(("recognised",)), [domain[-11:]] * len(record.claims))
    with pytest.raises(InputError, match="no 'recognised' vectors"):
        record.features(("recognised",))
