"""`bench detection` and `bench mitigation`, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run
from mention_table import synthetic

from saliency_guard.evaluation import probe
from saliency_guard.evaluation.detection import MentionTable


def test_bench_detection_writes_its_page_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STRENGTHS", (0.1,))  # The search takes most of the time; test_probe.py tests it.
    monkeypatch.setattr(probe, "FOLDS", 2)
    page = tmp_path / "evidence.md"
    page.write_text("# Evidence\n<!-- begin detection -->\n<!-- end detection -->\nkept\n")
    options = (
        "--pictures",
        "2",
        "--split",
        "openmoji",
        "--out",
        str(tmp_path / "runs"),
        "--page",
        str(page),
    )
    run("bench", "detection", *options)
    assert "Too few mentions" in page.read_text()
    (kept,) = (tmp_path / "runs").glob("openmoji-2-96-*.npz")
    assert len(MentionTable.load(kept)) > 0
    # It goes on with the mentions that are there: here with enough of them, made up.
    synthetic(40, 0).save(kept)
    run("bench", "detection", *options)
    text = page.read_text()
    assert text.endswith("kept\n")
    for part in (
        "### OpenMoji",
        "| nll |",
        "**what a user gets**: calibrated grounding",
        "layers of the released code",
        "together: saliency probe",
        "| all, without |",
        "lowest quarter",
        "--split openmoji",
    ):
        assert part in text
    result = json.loads((tmp_path / "runs" / "result.json").read_text())
    assert result["settings"]["pictures"] == 2
    for plot in ("auroc.png", "quartiles.png"):
        assert (tmp_path / "evidence" / plot).stat().st_size > 5000


def test_bench_mitigation_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "evidence.md"
    page.write_text("<!-- begin mitigation -->\n<!-- end mitigation -->\n")
    run("bench", "mitigation", "--pictures", "1", "--max-new-tokens", "8", "--out", str(tmp_path), "--page", str(page))
    text = page.read_text()
    for part in (
        "nothing, greedy",
        "SGRS + LocoRE, sampled",
        "repair below 0.5, greedy",
        "SGRS, alpha 0.9",
        "layers of the released code",
        "LocoRE, beta 1.0",
        "adversarial",
        "true claims kept",
        "1 pictures, OpenMoji",
    ):
        assert part in text
    result = json.loads((tmp_path / "result.json").read_text())
    assert {each["guard"] for each in result["captions"]["openmoji"]} >= {"nothing", "SGRS", "repair below 0.9"}


def test_bench_calibration_writes_its_page_and_goes_on(tmp_path: Path) -> None:
    page = tmp_path / "evidence.md"
    page.write_text("<!-- begin calibration -->\n<!-- end calibration -->\n")
    options = ["--pictures", "8", "--several", "0", "--source", "synthetic pictures", "--out", str(tmp_path)]
    run("bench", "calibration", *options, "--page", str(page))
    text = page.read_text()
    for part in ("### What a user gets", "| Synthetic pictures |", "Brier skill", "refused of the wrong"):
        assert part in text
    (records,) = tmp_path.glob("synthetic-pictures-8-*.jsonl")
    before = records.stat().st_mtime_ns
    run("bench", "calibration", *options)
    assert records.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "result.json").read_text())["sources"][0]["source"] == "synthetic pictures"
    assert "there are: training styles" in run("bench", "calibration", "--source", "x", code=2)


def test_a_look_does_not_overwrite_the_page(tmp_path: Path) -> None:
    page = tmp_path / "evidence.md"
    page.write_text("<!-- begin detection -->\nkept\n<!-- end detection -->\n")
    assert "use only one of the two" in run("bench", "detection", "--quick", "--page", str(page), code=2)
    assert "no section 'mitigation'" in run("bench", "mitigation", "--page", str(page), code=2)
    assert "kept" in page.read_text()


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    assert "there is no split" in run("bench", "detection", "--split", "x", "--out", str(tmp_path), code=2)
