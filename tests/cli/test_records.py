"""``records`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import invoke

from saliency_guard import LVLM, Records
from saliency_guard.chat.messages import chat


def test_records_of_scenes(tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    scenes = ("--scenes", "2", "--redrawn", "1", "--split", "development")
    done = invoke("records", *scenes, "--draws", "2", "--out", str(out))
    assert done.exit_code == 0, done.output
    found = Records.load(out)
    assert len(found) == 24
    assert len(found.usual) == 16
    assert {record.draw for record in found} == {0, 1}
    assert len({(record.picture, record.question) for record in found}) == 12
    yes_no = [record for record in found if record.question.startswith("Is")]
    assert len(yes_no) == 12
    assert all(record.claims for record in yes_no)


def test_records_of_ones_own_labelled_answers(tmp_path: Path, image: Path, lvlm: LVLM) -> None:
    rows = [
        {"image": image.name, "question": "What is there?", "answer": "A red cat.", "grounded": False,
         "mentions": [{"text": "cat", "grounded": False}]},
        {"image": str(image), "question": "What is there?", "answer": "A picture.", "grounded": True, "redrawn": True},
    ]  # fmt: skip
    listed = image.parent / "labelled.jsonl"
    listed.write_text("\n".join(map(json.dumps, rows)))
    done = invoke("records", "--labelled", str(listed), "--out", str(tmp_path / "out.jsonl"))
    assert done.exit_code == 0, done.output
    first, second = Records.load(tmp_path / "out.jsonl").records
    assert first.answer.text == "A red cat."
    (claim,) = first.claims
    assert first.answer.tokens[claim.tokens[0]].text.strip().startswith("c")
    assert (claim.grounded, first.grounded, second.grounded) == (False, False, True)
    assert second.claims == ()
    assert (first.redrawn, second.redrawn) == (False, True)
    scored = lvlm.score(chat(image, "What is there?"), "A red cat.")
    assert lvlm.calibrator.judge_record(first).answer == pytest.approx(scored.grounding, abs=0.02)


def test_records_about_text_documents(tmp_path: Path, lvlm: LVLM) -> None:
    out = tmp_path / "made.jsonl"
    done = invoke("records", "--documents", "3", "--split", "development", "--max-new-tokens", "8", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert [(record.pictures, record.draw) for record in Records.load(out)] == [(0, 0)] * 3 + [(0, -1)] * 3
    row = {"documents": ["Anna lives in Rome.", "It rains."], "question": "Where does Anna live?", "grounded": False,
           "answer": "Anna lives in Oslo.", "mentions": [{"text": "Oslo", "grounded": False}]}  # fmt: skip
    listed = tmp_path / "labelled.jsonl"
    listed.write_text(json.dumps(row))
    done = invoke("records", "--labelled", str(listed), "--out", str(tmp_path / "own.jsonl"))
    assert done.exit_code == 0, done.output
    (record,) = Records.load(tmp_path / "own.jsonl").records
    assert (record.pictures, record.document_lengths) == (0, (19, 9))
    assert [(claim.kind, claim.grounded) for claim in record.claims] == [("statement", False)]
    listed.write_text(json.dumps(row | {"image": "a.png"}))
    done = invoke("records", "--labelled", str(listed), "--out", str(tmp_path / "own.jsonl"))
    assert done.exit_code == 2
    assert "about one image, or about documents" in " ".join(done.output.split())


def test_records_of_pope_files(tmp_path: Path, image: Path) -> None:
    questions = tmp_path / "pope.jsonl"
    row = {"question_id": 1, "image": image.name, "text": "Is there a cat in the image?", "label": "yes"}
    questions.write_text(json.dumps(row))
    done = invoke(
        "records", "--pope", str(questions), "--images", str(image.parent), "--out", str(tmp_path / "out.jsonl")
    )
    assert done.exit_code == 0, done.output
    (found,) = Records.load(tmp_path / "out.jsonl").records
    assert found.claims[0].kind == "yes_no"
    assert found.claims[0].tokens == (0,)
    assert found.claims[0].grounded is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give exactly one source of records"),
        (["--scenes", "2", "--pope", "x"], "give exactly one source of records"),
        (["--pope", "x"], "need --images"),
        (["--scenes", "2", "--split", "moon"], "no split"),
        (["--labelled", "missing.jsonl"], "cannot read"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(tmp_path: Path, options: list[str], message: str) -> None:
    done = invoke("records", "--out", str(tmp_path / "out.jsonl"), *options)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "out.jsonl").exists()
