"""`bench calibration` on records whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
from command_line import run

from saliency_guard import LVLM, Calibrator, Records
from saliency_guard.calibration import fit
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.evaluation import calibration_page

PICTURES = 16


@pytest.fixture(scope="module")
def files(lvlm: LVLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of both splits, three draws and one answer from elsewhere to a question, and a calibration."""
    folder = tmp_path_factory.mktemp("calibration")
    fingerprint = lvlm.calibrator.fingerprint
    rng = np.random.default_rng(0)
    for seed, name in enumerate(("training-styles", "openmoji")):
        written = synthetic.records(PICTURES, seed=seed, draws=3, first=1000 * seed)
        told = [synthetic.record(1000 * seed + number, [number % 2 == 0], rng, draw=-1) for number in range(PICTURES)]
        Records(fingerprint, [*written, *told]).save(folder / f"{name}-{PICTURES}-{fingerprint.weights[:8]}.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "STRENGTHS", (0.1,))
        fitted = Calibrator.fit(Records(fingerprint, synthetic.records(120, seed=9).records), features="signals")
    fitted.save(folder / "calibrator.json")
    return folder


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resamples take most of the time; evaluation/test_guarding.py tests them."""
    measure = calibration_page.source_result
    few = {"samples": 5, "splits": 3}
    monkeypatch.setattr(calibration_page, "source_result", lambda *given, **named: measure(*given, **{**named, **few}))


@pytest.mark.usefixtures("few_resamples")
def test_what_a_calibration_is_worth_is_told_from_records_that_are_there(files: Path) -> None:
    sources = ("--source", "training styles", "--source", "openmoji")
    options = ("--calibrator", str(files / "calibrator.json"), "--pictures", str(PICTURES), "--quick", *sources)
    text = run("bench", "calibration", "--out", str(files), *options)
    for part in (
        "saliency-guard bench calibration",
        "### What a user gets",
        "### Training styles",
        "### OpenMoji",
        "Guarantees with confidence",
        "120 pictures",
    ):
        assert part.lower() in text.lower(), part
    sources_measured = json.loads((files / "result.json").read_text())["sources"]
    assert [source["source"] for source in sources_measured] == ["training styles", "openmoji"]
    for source in sources_measured:
        claims = next(row for row in source["rows"] if row["name"] == "claims")
        assert claims["reliability"]["auroc"] > 0.8  # Entropy tells right from wrong here.
        written, given = source["auroc"]
        assert {row["name"] for row in written} == {row["name"] for row in given}
        assert all(0.0 <= row["broken"] <= 1.0 for row in source["validity"])
    assert (files / "coverage.png").stat().st_size > 5000
    assert (files / "reliability.png").stat().st_size > 5000


def test_a_model_without_a_calibration_says_how_to_get_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in EMBEDDED_PATH.iterdir():
        if path.name != "calibrator.json":
            (folder / path.name).symlink_to(path)
    complaint = run("bench", "calibration", "--model", str(folder), "--out", str(tmp_path), code=2)
    assert "has no calibration: fit one with `saliency-guard calibrate`" in " ".join(complaint.split())


def test_a_calibration_of_another_model_is_refused_before_the_work(files: Path, tmp_path: Path) -> None:
    fitted = Calibrator.load(files / "calibrator.json")
    fitted.model_copy(update={"fingerprint": synthetic.FINGERPRINT}).save(tmp_path / "other.json")
    out = run("bench", "calibration", "--calibrator", str(tmp_path / "other.json"), "--out", str(tmp_path), code=2)
    assert "CalibrationMismatchError" in out
    assert not list(tmp_path.glob("*.jsonl*"))
