"""What calibrations and policies are worth, on records whose truth is made."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic

from saliency_guard import Calibrator
from saliency_guard.evaluation.guarding import (
    CALIBRATED,
    POSITION,
    compare_scores,
    reliabilities,
    risk_coverage,
    validity,
)


@pytest.fixture(scope="module")
def fitted() -> Calibrator:
    return Calibrator.fit(synthetic.records(400), features="signals", held_out=0.0)


def test_the_calibrated_score_beats_noise_and_ties_with_the_signal_it_is_made_of(fitted: Calibrator) -> None:
    compared = {
        score.name: score for score in compare_scores(synthetic.records(400, seed=1, first=10_000), fitted, samples=50)
    }
    assert compared[CALIBRATED].claims.value == pytest.approx(compared["entropy"].claims.value, abs=0.02)
    assert compared[CALIBRATED].claims.value > 0.85
    for name in (POSITION, "nll", "svar"):
        assert compared[name].claims.value < 0.6


def test_reliability_is_told_by_kind_of_question(fitted: Calibrator) -> None:
    measured = reliabilities(synthetic.records(100, seed=1, first=10_000), fitted)
    assert set(measured) == {"claims", "claims: object", "answers", "answers: descriptions"}
    assert measured["answers"].count == 100


def test_risk_falls_with_coverage_where_scores_are_true() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((3000, 2))
    grounded = rng.random((3000, 2)) < scores
    curve = risk_coverage(scores[:, :1], grounded[:, :1], "first")
    assert [threshold for threshold, _, _ in curve] == sorted(scores[:, 0].tolist())
    assert curve[0][1] == 1.0
    assert curve[0][2] == pytest.approx(0.5, abs=0.05)
    half = min(curve, key=lambda point: abs(point[0] - 0.5))
    assert half[1:] == pytest.approx((0.5, 0.25), abs=0.05)
    retried = min(risk_coverage(scores, grounded, "first"), key=lambda point: abs(point[0] - 0.5))
    assert retried[1] == pytest.approx(0.75, abs=0.05)


def test_guarantees_are_counted_over_splits() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(6, 0.5, size=(4000, 1))
    grounded = rng.random((4000, 1)) < scores
    tested = validity("plain", scores, grounded, risk=0.1, splits=20)
    assert tested.guaranteed == 1.0
    assert tested.broken <= 0.1
    assert tested.observed < 0.1
    hopeless = validity("plain", scores[:40], grounded[:40], risk=0.02, splits=5)
    assert (hopeless.guaranteed, hopeless.broken, hopeless.accepted) == (0.0, 0.0, 0.0)
