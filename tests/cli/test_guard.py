"""``records``, ``calibrate`` and ``check`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from saliency_guard import LVLM, Calibrator, GuardPolicy, Records
from saliency_guard.chat.messages import chat
from saliency_guard.cli.app import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "120"})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, picture: Image.Image) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    picture.save(path)
    return path


def test_records_of_scenes(tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    done = run("records", "--scenes", "2", "--split", "development", "--draws", "2", "--out", str(out))
    assert done.exit_code == 0, done.output
    found = Records.load(out)
    assert len(found) == 16
    assert {record.draw for record in found} == {0, 1}
    assert len({(record.picture, record.question) for record in found}) == 8
    yes_no = [record for record in found if record.question.startswith("Is")]
    assert len(yes_no) == 8
    assert all(record.mentions for record in yes_no)


def test_records_of_ones_own_labelled_answers(tmp_path: Path, image: Path, lvlm: LVLM) -> None:
    rows = [
        {"image": image.name, "question": "What is there?", "answer": "A red cat.", "grounded": False,
         "mentions": [{"text": "cat", "grounded": False}]},
        {"image": str(image), "question": "What is there?", "answer": "A picture.", "grounded": True},
    ]  # fmt: skip
    listed = image.parent / "labelled.jsonl"
    listed.write_text("\n".join(map(json.dumps, rows)))
    done = run("records", "--labelled", str(listed), "--out", str(tmp_path / "out.jsonl"))
    assert done.exit_code == 0, done.output
    first, second = Records.load(tmp_path / "out.jsonl").records
    assert first.answer.text == "A red cat."
    assert first.answer.tokens[first.mentions[0].token].text.strip().startswith("c")
    assert (first.grounded, second.grounded) == (False, True)
    scored = lvlm.score(chat(image, "What is there?"), "A red cat.")
    assert lvlm.calibrator.judge_record(first).answer == pytest.approx(scored.grounding, abs=0.02)


def test_records_of_pope_files(tmp_path: Path, image: Path) -> None:
    questions = tmp_path / "pope.jsonl"
    row = {"question_id": 1, "image": image.name, "text": "Is there a cat in the image?", "label": "yes"}
    questions.write_text(json.dumps(row))
    done = run("records", "--pope", str(questions), "--images", str(image.parent), "--out", str(tmp_path / "out.jsonl"))
    assert done.exit_code == 0, done.output
    (found,) = Records.load(tmp_path / "out.jsonl").records
    assert found.mentions[0].name in ("yes", "no")
    assert found.mentions[0].token == 0


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
    done = run("records", "--out", str(tmp_path / "out.jsonl"), *options)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "out.jsonl").exists()


def test_a_calibration_from_records(tmp_path: Path) -> None:
    synthetic.records(200).save(tmp_path / "records.jsonl")
    out = tmp_path / "calibrator.json"
    done = run("calibrate", str(tmp_path / "records.jsonl"), "--out", str(out), "--features", "signals", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)["report"]
    assert report["tokens"]["auroc"] > 0.8
    assert Calibrator.load(out).report.model_dump(mode="json") == report
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_policy_with_a_guarantee(tmp_path: Path) -> None:
    synthetic.records(2500, rate=0.1).save(tmp_path / "records.jsonl")
    out = tmp_path / "guard.json"
    options = ["--risk", "0.1", "--features", "signals", "--out", str(out)]
    done = run("calibrate", str(tmp_path / "records.jsonl"), *options)
    assert done.exit_code == 0, done.output
    policy = GuardPolicy.load(out)
    assert policy.guarantee.risk == 0.1
    assert policy.guarantee.units == 1250
    assert policy.calibrator is not None
    assert "accept grounding" in " ".join(done.output.split())


def test_no_guarantee_writes_nothing_and_has_its_own_exit_code(tmp_path: Path) -> None:
    synthetic.records(80).save(tmp_path / "records.jsonl")
    options = ["--risk", "0.02", "--features", "signals", "--out", str(tmp_path / "guard.json")]
    done = run("calibrate", "--records", str(tmp_path / "records.jsonl"), *options)
    assert done.exit_code == 1
    assert "support no threshold with this guarantee" in " ".join(done.output.split())
    assert not (tmp_path / "guard.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either a file of records or --scenes"),
        (["none.jsonl", "--scenes", "8"], "give either a file of records or --scenes"),
        (["none.jsonl"], "cannot read records"),
    ],
)
def test_calibrating_on_nothing(tmp_path: Path, options: list[str], message: str) -> None:
    done = run("calibrate", "--out", str(tmp_path / "guard.json"), *options)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_an_answer_is_accepted_or_refused_by_exit_code(tmp_path: Path, image: Path, lvlm: LVLM) -> None:
    GuardPolicy(min_grounding=0.5, on_low="raise", calibrator=lvlm.calibrator).save(tmp_path / "guard.json")
    asked = ("check", str(image), "Is there a pizza in the image?")
    good = run(*asked, "No, there is no pizza in the image.", "--policy", str(tmp_path / "guard.json"))
    assert good.exit_code == 0, good.output
    assert good.output.startswith("accepted")
    bad = run(*asked, "Yes, there is a pizza in the image.", "--policy", str(tmp_path / "guard.json"), "--json")
    assert bad.exit_code == 3
    assert json.loads(bad.stdout)["accepted"] is False
    assert "is below 0.500" in json.loads(bad.stdout)["refused"]
    missing = run(*asked, "Yes.", "--policy", str(tmp_path / "none.json"))
    assert missing.exit_code == 2


def test_an_answer_that_cannot_be_judged_says_so(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "guard.json"
    asked = ("check", str(image), "Is there a pizza in the image?", "It is there.", "--policy", str(path))
    GuardPolicy(min_grounding=0.5, unscored="raise").save(path)
    done = run(*asked)
    assert done.exit_code == 3, done.output
    assert "unscored: nothing in the answer counts" in " ".join(done.output.split())
    GuardPolicy(min_grounding=0.5, unscored="pass").save(path)
    done = run(*asked, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["decision"] == "unscored"
