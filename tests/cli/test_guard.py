"""``calibrate`` and ``check`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic
from command_line import invoke

from saliency_guard import LVLM, Calibrator, GuardPolicy, Records
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.scenes.vocabulary import with_article


def test_a_calibration_from_records(tmp_path: Path) -> None:
    synthetic.records(200).save(tmp_path / "records.jsonl")
    out = tmp_path / "calibrator.json"
    done = invoke("calibrate", str(tmp_path / "records.jsonl"), "--out", str(out), "--features", "signals", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)["report"]
    assert report["claims"]["auroc"] > 0.8
    assert Calibrator.load(out).report.model_dump(mode="json") == report
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_policy_with_a_guarantee(tmp_path: Path) -> None:
    synthetic.records(1000, rate=0.1).save(tmp_path / "records.jsonl")
    out = tmp_path / "guard.json"
    options = ["--risk", "0.1", "--features", "signals", "--out", str(out)]
    done = invoke("calibrate", str(tmp_path / "records.jsonl"), *options)
    assert done.exit_code == 0, done.output
    policy = GuardPolicy.load(out)
    assert policy.guarantee.risk == 0.1
    assert policy.guarantee.units == 500
    assert policy.calibrator is not None
    assert "accept grounding" in " ".join(done.output.split())


def test_no_guarantee_writes_nothing_and_has_its_own_exit_code(tmp_path: Path) -> None:
    synthetic.records(60).save(tmp_path / "records.jsonl")
    options = ["--risk", "0.02", "--features", "signals", "--out", str(tmp_path / "guard.json")]
    done = invoke("calibrate", "--records", str(tmp_path / "records.jsonl"), *options)
    assert done.exit_code == 1
    assert "support no threshold with this guarantee" in " ".join(done.output.split())
    assert not (tmp_path / "guard.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either a file of records, --scenes"),
        (["none.jsonl", "--scenes", "8"], "give either a file of records, --scenes"),
        (["--scenes", "8", "--pope", "none.jsonl"], "give either a file of records, --scenes"),
        (["--pope", "none.jsonl"], "need --images"),
        (["--pope", "none.jsonl", "--images", "."], "cannot read"),
        (["none.jsonl"], "cannot read records"),
    ],
)
def test_calibrating_on_nothing(tmp_path: Path, options: list[str], message: str) -> None:
    done = invoke("calibrate", "--out", str(tmp_path / "guard.json"), *options)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_photographs_are_calibrated_on_in_one_command_that_goes_on_where_it_stopped(tmp_path: Path) -> None:
    questions = photographs(tmp_path / "pictures", 12)
    (tmp_path / "pope.jsonl").write_text("\n".join(map(json.dumps, questions)))
    out = tmp_path / "calibration.json"
    given = ["--pope", str(tmp_path / "pope.jsonl"), "--images", str(tmp_path / "pictures"), "--features", "verified"]
    command = ["calibrate", *given, "--out", str(out), "--json"]
    done = invoke(*command)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)["report"]
    assert 0 <= report["answers"]["ece"] <= 1
    assert report["answers"]["auroc"] is not None
    fitted = Calibrator.load(out)
    assert fitted.fitted_on.source == "24 of pope.jsonl"
    assert (fitted.fitted_on.pictures, fitted.fitted_on.answers) == (12, 24)
    assert LVLM.load(calibrator=out).calibrator == fitted
    # Stopped after some answers; those are not asked for again.
    kept = tmp_path / "calibration-records.jsonl"
    lines = kept.read_text().splitlines(keepends=True)
    changed = lines[1].replace('"grounded":true', '"grounded":false').replace('"grounded":null', '"grounded":false')
    assert changed != lines[1]
    kept.with_name(f"{kept.name}.part").write_text("".join([lines[0], changed, *lines[2:20]]))
    kept.unlink()
    assert invoke(*command).exit_code == 0
    assert kept.read_text().splitlines(keepends=True) == [lines[0], changed, *lines[2:]]
    # Finished, it is gone on with, and what is not asked for is left out.
    fewer = invoke(*command, "--limit", "22")
    assert fewer.exit_code == 0, fewer.output
    assert Calibrator.load(out).fitted_on.answers == 22
    assert len(Records.load(kept)) == 24


def test_answers_about_documents_are_added_to_a_calibration(tmp_path: Path, lvlm: LVLM) -> None:
    assert lvlm.calibrator is not None
    lvlm.calibrator.save(tmp_path / "known.json")
    made = synthetic.document_records(120)
    Records(lvlm.calibrator.fingerprint, made, verify=made.verify).save(tmp_path / "records.jsonl")
    out = tmp_path / "both.json"
    given = ["--calibrator", str(tmp_path / "known.json"), "--out", str(out)]
    done = invoke("calibrate", str(tmp_path / "records.jsonl"), *given)
    assert done.exit_code == 0, done.output
    fitted = Calibrator.load(out)
    assert fitted.documents is not None
    nothing = {"documents": None}
    assert fitted.model_copy(update=nothing) == lvlm.calibrator.model_copy(update=nothing)
    assert "text documents, statement claims: AUROC" in " ".join(done.output.split())
    assert "too little for a number" not in " ".join(done.output.split())
    wrong = invoke("calibrate", "--documents", "8", "--pope", "pope.jsonl", "--out", str(out))
    assert wrong.exit_code == 2
    assert "--documents goes with --scenes" in " ".join(wrong.output.split())


def photographs(folder: Path, count: int) -> list[dict[str, str]]:
    """Pictures, and POPE's questions about them: one whose truth is as it says, and one of half whose truth is not."""
    folder.mkdir()
    rows: list[dict[str, str]] = []
    for number in range(count):
        scene = sample_scene(9000 + number)
        render(scene, 224).image.save(folder / f"{number}.png")
        shown = min(scene.counts)
        absent = next(name for name in ("elephant", "guitar", "cat", "dog") if name not in scene.counts)
        for name, truth in ((shown, "yes"), (absent, "no" if number % 4 == 0 else "yes")):
            text = f"Is there {with_article(name)} in the image?"
            rows.append({"question_id": str(len(rows)), "image": f"{number}.png", "text": text, "label": truth})
    return rows


def test_an_answer_is_accepted_or_refused_by_exit_code(tmp_path: Path, image: Path, lvlm: LVLM) -> None:
    GuardPolicy(min_grounding=0.5, on_low="raise", calibrator=lvlm.calibrator).save(tmp_path / "guard.json")
    asked = ("check", str(image), "Is there a pizza in the image?")
    good = invoke(*asked, "No, there is no pizza in the image.", "--policy", str(tmp_path / "guard.json"))
    assert good.exit_code == 0, good.output
    assert good.output.startswith("accepted")
    bad = invoke(*asked, "Yes, there is a pizza in the image.", "--policy", str(tmp_path / "guard.json"), "--json")
    assert bad.exit_code == 3
    assert json.loads(bad.stdout)["accepted"] is False
    assert "is below 0.500" in json.loads(bad.stdout)["refused"]
    missing = invoke(*asked, "Yes.", "--policy", str(tmp_path / "none.json"))
    assert missing.exit_code == 2


def test_an_answer_that_cannot_be_judged_says_so(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "guard.json"
    asked = ("check", str(image), "Is there a pizza in the image?", "It is there.", "--policy", str(path))
    GuardPolicy(min_grounding=0.5, unscored="raise").save(path)
    done = invoke(*asked)
    assert done.exit_code == 3, done.output
    assert "unscored: the answer makes no claim" in " ".join(done.output.split())
    GuardPolicy(min_grounding=0.5, unscored="pass").save(path)
    done = invoke(*asked, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["decision"] == "unscored"
