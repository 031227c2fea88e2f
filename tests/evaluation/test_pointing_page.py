"""Results of the pointing game on a table made by hand, and the section they make."""

from __future__ import annotations

import numpy as np
import pytest

from saliency_guard.evaluation.pointing import PointedTable
from saliency_guard.evaluation.pointing_maps import CHANCE, COMBINED
from saliency_guard.evaluation.pointing_page import SEVERAL_PICTURES, plays, pointing_section, split_result

PEAKS = np.array([[0.1, 1.0], [0.1, 0.0], [0.2, 1.0], [0.2, np.nan]])


def made() -> PointedTable:
    return PointedTable(
        maps=np.array([CHANCE, COMBINED]),
        scene=np.array([1, 1, 2, 2]),
        given=np.array([False, False, True, True]),
        right=np.ones((4, 2)),
        peak=PEAKS,
        mass=PEAKS / 2,
        box=np.array([[1.0, 0.5], [0.0, 0.1], [np.nan, np.nan], [1.0, 0.6]]),
    )


def test_results_are_means_over_what_is_known() -> None:
    result = split_result("training styles", made(), samples=100)
    assert (result.scenes, result.mentions, result.given) == (2, 4, 2)
    combined = result.of(COMBINED)
    assert combined is not None
    assert combined.peak.value == pytest.approx(2 / 3)
    assert combined.peak.low <= 2 / 3 <= combined.peak.high
    assert combined.mass.value == pytest.approx(1 / 3)
    assert result.centred.value == pytest.approx(2 / 3)
    assert result.overlap.value == pytest.approx(0.4)
    assert result.of("another") is None


def test_the_section_chooses_on_the_first_split_and_reports_the_others() -> None:
    names = ("development", "training styles", SEVERAL_PICTURES)
    section = pointing_section([split_result(name, made(), samples=20) for name in names], "a command", model="m")
    assert section.startswith("```\na command\n```")
    assert f"point best: {COMBINED} (0.667), {CHANCE} (0.150)." in section
    header = next(line for line in section.splitlines() if "peak" in line and line.startswith("|"))
    columns = ["Training styles, peak", "Training styles, mass", "several pictures, right picture"]
    assert header.split(" | ")[1:] == [*columns, "several pictures, peak |"]
    assert f"| **{COMBINED}** | 0.667 [" in section
    assert "2 of them in true statements" in section
    assert section.count("development") == 2  # Nothing of it is in a table.


def test_splits_share_no_scene() -> None:
    seeds = [{picture.scene.seed for shown in play.ask() for picture in shown.pictures} for play in plays(3)]
    assert [play.questions for play in plays(3)][-1] == 3
    assert len(set().union(*seeds)) == sum(map(len, seeds))
    assert all(len(list(play.ask())) == play.questions for play in plays(3))
