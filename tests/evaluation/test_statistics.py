"""AUROC, average precision and intervals, against scikit-learn and against plain loops."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from saliency_guard.calibration.reliability import auroc
from saliency_guard.evaluation.statistics import (
    Interval,
    aupr,
    binned_auroc,
    interval,
    paired_difference,
    resamples,
)

CASES = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=4, max_size=40).filter(
    lambda rows: {True, False} <= {label for _, label, weight in rows if weight}
)


@given(CASES)
@settings(deadline=None)
def test_areas_are_scikit_learns_with_ties_and_weights(rows: list[tuple[int, bool, int]]) -> None:
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    scores, labels, weights = scores.astype(float), labels.astype(bool), weights.astype(float)
    assert auroc(scores, labels, weights[None])[0] == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
    )
    assert aupr(scores, labels, weights[None])[0] == pytest.approx(
        average_precision_score(labels, scores, sample_weight=weights), abs=1e-12
    )


def test_one_class_alone_has_no_area() -> None:
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.array([True, True]))[0])
    assert np.isnan(aupr(np.array([1.0, 2.0]), np.array([False, False]))[0])


def test_pictures_are_drawn_whole() -> None:
    groups = np.array([7, 7, 3, 9, 9, 9])
    drawn = resamples(groups, 50, seed=1)
    assert drawn.shape == (50, 6)
    for group in (3, 7, 9):
        columns = drawn[:, groups == group]
        assert (columns == columns[:, :1]).all()
    assert (drawn[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (resamples(groups, 50, seed=1) == drawn).all()


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(120):
        labels = rng.random(200) < 0.5
        scores = rng.normal(size=200) + labels  # AUROC 0.7602 in the limit
        estimate = interval(partial(auroc, scores, labels), np.arange(200), count=200)
        assert estimate.low <= estimate.value <= estimate.high
        covered += estimate.low <= 0.7602 <= estimate.high
    assert 0.88 <= covered / 120 <= 1.0


def test_position_alone_explains_nothing_within_its_bins() -> None:
    position = np.repeat(np.arange(5), 40).astype(float)
    labels = np.random.default_rng(0).random(200) < position / 6 + 0.1
    assert auroc(position, labels)[0] > 0.7
    assert binned_auroc(position, labels, position)[0] == pytest.approx(0.5)
    assert binned_auroc(labels.astype(float), labels, position)[0] == 1.0


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    before = rng.poisson(5, size=(80, 2)) + np.array([[10.0, 0.0]])
    after = before + np.array([[0.0, 1.0]])
    estimate = paired_difference(lambda sums: sums[:, 1] / sums[:, 0], before, after)
    # One more in every picture: the pictures vary, the difference hardly does.
    assert estimate.value == pytest.approx(80 / before[:, 0].sum())
    assert estimate.high - estimate.low < 0.1 * estimate.value
    same = paired_difference(lambda sums: sums[:, 1] / sums[:, 0], before, before)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_an_interval_reads_as_numbers() -> None:
    assert str(Interval(0.8123, 0.79, 0.833)) == "0.812 [0.790, 0.833]"
