"""How good probabilities are, against scikit-learn's measures and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from saliency_guard.calibration.reliability import auroc, by_score, reliability


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_measures_agree_with_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    probability = np.array([value for value, _ in pairs])
    truth = np.array([label for _, label in pairs])
    measured = reliability(probability, truth)
    assert measured.brier == pytest.approx(brier_score_loss(truth, probability))
    assert sum(part.count for part in measured.bins) == len(pairs)
    assert 0 <= measured.ece <= 1
    has_both = truth.any() and not truth.all()
    assert measured.auroc == (pytest.approx(roc_auc_score(truth, probability)) if has_both else None)


def test_the_calibration_error_is_the_mean_distance_of_the_bins() -> None:
    probability = np.repeat([0.2, 0.8], 50)
    truth = np.tile([True, False], 50)  # Half of either kind.
    measured = reliability(probability, truth)
    assert [part.count for part in measured.bins] == [10] * 10
    assert [part.predicted for part in measured.bins] == pytest.approx([0.2] * 5 + [0.8] * 5)
    assert measured.ece == pytest.approx(0.3)
    assert measured.grounded == 0.5
    assert reliability(probability, np.concatenate([np.arange(50) % 5 == 0, np.arange(50) % 5 != 0])).ece < 1e-9


def test_resamples_are_weights() -> None:
    scores, labels = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])
    counts = np.array([[1, 1, 1, 1], [0, 2, 1, 1], [2, 2, 0, 0]])
    areas = auroc(scores, labels, counts)
    assert areas[0] == pytest.approx(roc_auc_score(labels, scores))
    assert areas[1] == pytest.approx(roc_auc_score(np.repeat(labels, counts[1]), np.repeat(scores, counts[1])))
    assert np.isnan(areas[2])  # One class alone.


def test_weights_are_added_at_every_distinct_score() -> None:
    positive, negative = by_score(np.array([0.4, 0.1, 0.4]), np.array([True, False, False]), None)
    assert positive.tolist() == [[0, 1]]
    assert negative.tolist() == [[1, 1]]
