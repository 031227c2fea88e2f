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
    coverage_at,
    in_first_half,
    risk_coverage,
    validity,
)
from saliency_guard.evaluation.reliabilities import judge


@pytest.fixture(scope="module")
def fitted() -> Calibrator:
    return Calibrator.fit(synthetic.records(400), features="signals", held_out=0.0)


def test_the_calibrated_score_beats_noise_and_ties_with_the_signal_it_is_made_of(fitted: Calibrator) -> None:
    judged = judge(synthetic.records(400, seed=1, first=10_000), fitted)
    found = {each.name: each for each in compare_scores(judged, samples=50)}
    assert found[CALIBRATED].claims.value == pytest.approx(found["entropy"].claims.value, abs=0.02)
    assert found[CALIBRATED].claims.value > 0.85
    for name in (POSITION, "nll", "svar"):
        assert found[name].claims.value < 0.6


def test_the_direction_of_a_signal_is_never_that_of_the_pictures_it_is_tested_on() -> None:
    pictures = np.array([f"{index // 2}" for index in range(40)])
    first = in_first_half(pictures)
    assert first.sum() == 20
    assert all(len(set(first[pictures == name])) == 1 for name in pictures)
    # A score that is right on one half and upside down on the other would be at 1.0 in hindsight.
    rng = np.random.default_rng(0)
    records = synthetic.records(200, seed=3, first=20_000)
    names = np.array([record.picture for record in records])
    halves = dict(zip(names.tolist(), in_first_half(names).tolist(), strict=True))
    turned = [
        synthetic.record(
            int(record.picture.split()[1]),
            [bool(claim.grounded) for claim in record.claims],
            rng,
            strength=20.0 if halves[record.picture] else -20.0,
        )
        for record in records
    ]
    calibrator = Calibrator.fit(synthetic.records(200), features="signals", held_out=0.0)
    judged = judge(type(records)(records.fingerprint, turned), calibrator)
    found = {each.name: each for each in compare_scores(judged, samples=20)}
    assert found["entropy"].claims.value < 0.1


def test_a_threshold_is_chosen_on_one_half_of_the_questions_for_the_other() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((2000, 1))
    grounded = rng.random((2000, 1)) < scores
    answered, wrong = coverage_at(scores, grounded, "first", 0.2)
    assert answered == pytest.approx(0.4, abs=0.06)  # Above 0.6 the mean risk is 0.2.
    assert wrong == pytest.approx(0.2, abs=0.04)
    # In hindsight a lucky threshold always keeps its risk; here the labels of 40 questions are pure chance.
    chance = [coverage_at(rng.random((40, 1)), rng.random((40, 1)) < 0.5, "first", 0.3) for _ in range(60)]
    assert np.mean([wrong for answered, wrong in chance if answered]) > 0.4
    assert coverage_at(scores, np.zeros_like(grounded), "first", 0.2) == (0.0, 0.0)


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
    found = validity("plain", scores, grounded, risk=0.1, splits=20)
    assert found.guaranteed == 1.0
    assert found.broken <= 0.1
    assert found.observed < 0.1
    hopeless = validity("plain", scores[:40], grounded[:40], risk=0.02, splits=5)
    assert (hopeless.guaranteed, hopeless.broken, hopeless.accepted) == (0.0, 0.0, 0.0)
