"""`bench comparison`, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

from saliency_guard.evaluation import comparison
from saliency_guard.evaluation.comparison import GROUNDING, JUDGE, PLAIN, SAMPLED, WAYS


def test_the_comparison_writes_its_page_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = {PLAIN: 1.0, SAMPLED: 4.0, JUDGE: 1.5, GROUNDING: 2.5}
    monkeypatch.setattr(comparison, "costs", lambda *_, **__: cost)  # Its test is tests/evaluation/test_comparison.py.
    page = tmp_path / "comparison.md"
    page.write_text("# Comparison\n<!-- begin comparison -->\n<!-- end comparison -->\nkept\n")
    options = ("--scenes", "4", "--split", "training styles", "--out", str(tmp_path / "runs"), "--page", str(page))
    run("bench", "comparison", *options)
    text = page.read_text()
    assert text.endswith("kept\n")
    for what, _ in WAYS.values():
        assert f"| {what} |" in text
    assert "--scenes 4 --split 'training styles'" in text
    result = json.loads((tmp_path / "runs" / "result.json").read_text())
    assert result["cost"] == cost
    (split,) = result["splits"]
    assert 8 <= split["answers"] <= 16

    monkeypatch.setattr(comparison, "compared_answers", None)  # Not called: the answers are there.
    run("bench", "comparison", *options)
    assert page.read_text() == text


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--scenes", "4", "--split", "training styles", "--out", str(tmp_path))
    monkeypatch.setattr(comparison, "compared_answers", lambda *_, **__: [])
    monkeypatch.setattr(comparison, "costs", lambda *_, **__: {})
    assert "there is nothing to compare" in " ".join(run("bench", "comparison", *options, code=2).split())
    (kept,) = tmp_path.glob("training-styles-4-*.json")
    kept.write_text('[{"a": 1}]')
    assert "holds no answers of an earlier run" in " ".join(run("bench", "comparison", *options, code=2).split())


def test_a_look_does_not_overwrite_the_page(tmp_path: Path) -> None:
    page = tmp_path / "comparison.md"
    page.write_text("<!-- begin comparison -->\nkept\n<!-- end comparison -->\n")
    assert "use only one of the two" in run("bench", "comparison", "--quick", "--page", str(page), code=2)
    assert "kept" in page.read_text()
