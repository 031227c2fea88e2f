"""The detection table, on mentions whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from mention_table import synthetic

from saliency_guard import LVLM
from saliency_guard.evaluation import probe
from saliency_guard.evaluation.detection import SCALARS, collect
from saliency_guard.evaluation.evidence import detection_section
from saliency_guard.evaluation.ranking import quartile_rates, rank
from saliency_guard.evaluation.world import pictures


@pytest.fixture(autouse=True)
def one_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searching for the strength of every model is tested in test_probe.py, and takes most of a ranking's time."""
    monkeypatch.setattr(probe, "STRENGTHS", (0.1,))
    monkeypatch.setattr(probe, "FOLDS", 2)


def test_the_ranking_finds_what_is_there() -> None:
    result = rank("made up", 240, synthetic(240, 0), source=synthetic(120, 1), samples=60)
    for mode in ("greedy", "sampled"):
        mode_result = result.modes[mode]
        by_name = {(rank_.kind, rank_.name): rank_ for rank_ in mode_result.ranks}
        assert by_name["signal", "nll"].high_means == "hallucinated"
        assert by_name["signal", "saliency"].high_means == "true"
        for name in ("nll", "saliency"):
            assert by_name["signal", name].auroc.value > 0.65
            assert by_name["signal", name].within_bins.value > 0.65
        assert by_name["combination", "position only"].auroc.low < 0.55
        assert by_name["combination", "saliency probe"].auroc.value > 0.9
        assert by_name["combination", "attention probe"].auroc.value < 0.65
        # One word is wrong more often than the others; among mentions of one word that says nothing.
        assert by_name["combination", "word only"].auroc.low > 0.55
        assert by_name["combination", "word only"].within_words.value == pytest.approx(0.5)
        assert by_name["combination", "saliency probe"].within_words.value > 0.9
        everything = by_name["combination", "all"].auroc
        assert everything.low < everything.value < everything.high
        assert everything.value > by_name["combination", "signals"].auroc.value
        lost = by_name["without", "saliency by head"].lost
        assert lost.low > 0.02
        assert lost.value == pytest.approx(
            everything.value - by_name["without", "saliency by head"].auroc.value, abs=1e-9
        )
        assert by_name["without", "evidence by layer"].lost.low < 0.01
        assert by_name["transferred", "all"].auroc.value > 0.85
        assert (mode_result.mentions, mode_result.tested) == (960, 480)
        assert mode_result.quartiles[0].value > mode_result.quartiles[3].value
        assert mode_result.saliency_means[0].low > mode_result.saliency_means[1].high
    assert result.pictures == 240


def test_greedy_and_sampled_captions_are_never_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that says how a caption was written, and nothing else, detects nothing."""
    monkeypatch.setattr(
        probe, "COMBINATIONS", {"all": ("uncertainty", "priors")}
    )  # Only the signal by itself is looked at.
    table = synthetic(200, 0)
    rng = np.random.default_rng(5)
    table.signals[:, SCALARS.index("margin")] = table.sampled + 0.01 * rng.normal(size=len(table))
    table.hallucinated[:] = rng.random(len(table)) < np.where(table.sampled, 0.6, 0.1)
    result = rank("made up", 200, table, samples=60)
    assert set(result.modes) == {"greedy", "sampled"}
    for mode in result.modes.values():
        margin = next(rank_ for rank_ in mode.ranks if rank_.name == "margin")
        assert margin.auroc.low < 0.55


def test_too_few_mentions_are_said_to_be_too_few() -> None:
    result = rank("made up", 2, synthetic(2, 0), samples=20)
    assert all(mode.ranks == () for mode in result.modes.values())
    assert "Too few mentions" in detection_section([result], "the command", model="m", samples=20)


def test_quartiles_are_those_of_the_score() -> None:
    table = synthetic(40, 3)
    scores = table.signals[:, SCALARS.index("saliency")]
    edges = np.quantile(scores, [0.25, 0.75])
    rates = quartile_rates(table, 50)
    assert rates[0].value == pytest.approx(table.hallucinated[scores <= edges[0]].mean(), abs=0.02)
    assert rates[3].value == pytest.approx(table.hallucinated[scores >= edges[1]].mean(), abs=0.02)
    assert all(rate.low <= rate.value <= rate.high for rate in rates)


def test_captions_that_name_nothing_are_an_empty_table(lvlm: LVLM) -> None:
    table = collect(lvlm, pictures("development", 2), max_new_tokens=1)
    assert len(table) == 0
    result = rank("made up", 2, table, samples=20)
    assert all(mode.ranks == () and mode.quartiles == () for mode in result.modes.values())
    assert "0 mentions" in detection_section([result], "the command", model="m", samples=20)
