"""Plots of the evidence page: what is drawn is what was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from saliency_guard.calibration.reliability import reliability
from saliency_guard.calibration.results import CalibrationReport
from saliency_guard.report import plots

MEASURED = reliability(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
REPORT = CalibrationReport(claims=MEASURED, answers=None)
DRAWINGS: dict[str, Callable[[Path], None]] = {
    "auroc": lambda path: plots.plot_auroc({"Noto": [("nll", 0.8, 0.7, 0.9), ("position", 0.5, 0.4, 0.6)]}, path),
    "quartiles": lambda path: plots.plot_quartiles({"Noto, greedy": [0.4, 0.3, 0.2, 0.1], "sampled": [0.5]}, path),
    "costs": lambda path: plots.plot_costs({"prompt": {"SGRS": [(512, 1.2), (1024, 1.4)]}}, path),
    "reliability": lambda path: plots.plot_reliability(REPORT, path),
    "coverage": lambda path: plots.plot_coverage({"Noto": {"no retries": [(0.1, 1.0, 0.3), (0.9, 0.5, 0.1)]}}, path),
}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def note(figure: Figure, *arguments: Any, **settings: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", note)
    return saved


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_is_a_picture_in_a_file(tmp_path: Path, name: str) -> None:
    DRAWINGS[name](tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(2**20) or ()) > 10


def points(figure: Figure, panel: int = 0) -> list[list[tuple[float, float]]]:
    return [list(zip(*line.get_data(), strict=True)) for line in figure.axes[panel].lines]


def test_signals_stand_in_the_order_given_with_their_intervals(tmp_path: Path, figures: list[Figure]) -> None:
    DRAWINGS["auroc"](tmp_path / "plot.png")
    (figure,) = figures
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["nll", "position"]
    assert points(figure)[:2] == [[(0.7, 2), (0.9, 2)], [(0.8, 2)]]
    assert figure.axes[0].get_title() == "Noto"


def test_rates_are_as_high_as_they_are(tmp_path: Path, figures: list[Figure]) -> None:
    DRAWINGS["quartiles"](tmp_path / "plot.png")
    assert [bar.get_height() for bar in figures[0].axes[0].patches] == [0.4, 0.3, 0.2, 0.1, 0.5]


def test_reliability_is_predicted_against_observed(tmp_path: Path, figures: list[Figure]) -> None:
    DRAWINGS["reliability"](tmp_path / "plot.png")
    (figure,) = figures
    assert len(figure.axes) == 1  # Nothing is known of answers.
    assert points(figure)[1] == [(part.predicted, part.observed) for part in MEASURED.bins]
    assert figure.axes[0].get_title() == f"claims: ECE {MEASURED.ece:.3f}, 4 of them"


def test_costs_and_coverage_are_drawn_as_given(tmp_path: Path, figures: list[Figure]) -> None:
    DRAWINGS["costs"](tmp_path / "plot.png")
    DRAWINGS["coverage"](tmp_path / "plot.png")
    costs, coverage = figures
    assert points(costs)[0] == [(512, 1.2), (1024, 1.4)]
    assert points(coverage)[0] == [(1.0, 0.3), (0.5, 0.1)]
