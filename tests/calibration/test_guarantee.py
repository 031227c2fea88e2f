"""Thresholds that carry a guarantee, on cases whose true risk is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from saliency_guard import ConfigError, InputError, NoGuarantee, RiskGuarantee
from saliency_guard.calibration.guarantee import THRESHOLDS, choose_threshold, observed_risk, policy_outcomes, units


def calibrated_scores(count: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores uniform between 0 and 1 that are true probabilities: P(ungrounded | score >= t) = (1 - t) / 2."""
    rng = np.random.default_rng(seed)
    scores = rng.random((count, draws))
    return scores, rng.random((count, draws)) < scores


def test_the_threshold_is_the_one_the_closed_form_gives() -> None:
    scores, grounded = calibrated_scores(40_000, 1, 0)
    chosen = choose_threshold(scores, grounded, risk=0.05, confidence=0.95)
    assert isinstance(chosen, RiskGuarantee)
    # The true risk at t is (1 - t) / 2: 0.05 at 0.9. The next grid point above it, as records go to infinity.
    exact = next(value for value in THRESHOLDS if value >= 0.9)
    assert chosen.threshold in THRESHOLDS[(at := THRESHOLDS.index(exact)) : at + 3]
    assert (1 - chosen.threshold) / 2 <= 0.05
    assert chosen.accepted == pytest.approx(1 - chosen.threshold, abs=0.01)
    assert chosen.units == 40_000


def test_retries_need_a_threshold_of_their_own() -> None:
    """Keeping the best of three draws of skill-less scores: a threshold for single draws would not do."""
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 3))
    grounded = rng.random((20_000, 3)) < np.where(scores > 0.9, 0.80, 0.97)
    single = choose_threshold(scores[:, :1], grounded[:, :1], risk=0.062, confidence=0.95)
    assert isinstance(single, RiskGuarantee)
    whole = observed_risk(policy_outcomes(scores, grounded, "best", single.threshold), "accepted")[0]
    assert whole > 0.062
    together = choose_threshold(scores, grounded, risk=0.062, confidence=0.95, keep="best")
    assert isinstance(together, NoGuarantee)


def test_no_guarantee_is_a_result_that_says_how_many_more_records_might_do() -> None:
    scores, grounded = calibrated_scores(60, 1, 1)
    chosen = choose_threshold(scores, grounded, risk=0.05, confidence=0.95)
    assert isinstance(chosen, NoGuarantee)
    assert chosen.more_records is None or chosen.more_records > 60
    # None wrong: at 0.95 to the power of n, 99 questions pass a test at an eighth of 0.05.
    sure = choose_threshold(np.full((60, 1), 0.9999), np.ones((60, 1), dtype=bool), risk=0.05, confidence=0.95)
    assert isinstance(sure, NoGuarantee)
    assert 35 <= sure.more_records <= 45
    more = 60 + sure.more_records
    assert isinstance(
        choose_threshold(np.full((more, 1), 0.9999), np.ones((more, 1), dtype=bool), risk=0.05, confidence=0.95),
        RiskGuarantee,
    )


def test_no_number_of_records_helps_where_every_threshold_is_too_risky() -> None:
    rng = np.random.default_rng(0)
    chosen = choose_threshold(rng.random((500, 1)), rng.random((500, 1)) < 0.5, risk=0.05, confidence=0.95)
    assert isinstance(chosen, NoGuarantee)
    assert chosen.more_records is None
    assert chosen.best_observed > 0.05


def test_the_risk_may_be_of_all_questions() -> None:
    scores, grounded = calibrated_scores(5_000, 1, 0)
    chosen = choose_threshold(scores, grounded, risk=0.05, confidence=0.95, metric="all")
    assert isinstance(chosen, RiskGuarantee)
    # (1 - t)^2 / 2 of all questions get an ungrounded answer: more may be answered than with "accepted".
    assert (1 - chosen.threshold) ** 2 / 2 <= 0.05
    assert chosen.threshold < 0.9


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 1) | st.just(-np.inf), st.booleans()), min_size=3, max_size=3),
        min_size=1,
        max_size=30,
    ),
    st.floats(0, 1),
    st.sampled_from(["first", "best"]),
)
def test_outcomes_are_those_of_a_plain_walk(rows: list[list[tuple[float, bool]]], threshold: float, keep: str) -> None:
    scores = np.array([[score for score, _ in row] for row in rows])
    grounded = np.array([[truth for _, truth in row] for row in rows])
    for row, outcome in zip(rows, policy_outcomes(scores, grounded, keep, threshold), strict=True):
        good = [(score, truth) for score, truth in row if score >= threshold]
        if not good:
            assert np.isnan(outcome)
        else:
            taken = good[0] if keep == "first" else max(good, key=lambda draw: draw[0])
            assert outcome == (not taken[1])


def test_one_question_a_picture_is_a_unit() -> None:
    rng = np.random.default_rng(0)
    pairs = [
        synthetic.record(picture, [True], rng, draw=draw, question=question)
        for picture in range(5)
        for question in ("a", "b")
        for draw in range(2)
    ]
    records = synthetic.records(0).__class__(synthetic.FINGERPRINT, pairs)
    scores, grounded, pictures = units(records, [0.5] * 20, 2)
    assert scores.shape == grounded.shape == (5, 2)
    assert len(set(pictures)) == 5
    with pytest.raises(InputError, match="--draws 3"):
        units(records, [0.5] * 20, 3)
    assert units(records, [None] * 20, 1)[0].max() == -np.inf
    given = synthetic.record(9, [True], rng, draw=-1)
    whole = records.__class__(synthetic.FINGERPRINT, [*pairs, given])
    assert len(units(whole, [0.5] * 21, 2)[2]) == 5
    with pytest.raises(InputError, match="two answers number 0"):
        units(records.__class__(synthetic.FINGERPRINT, [pairs[0], pairs[0]]), [0.5] * 2, 1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.5, -0.5])
def test_what_is_no_probability_is_never_taken(wrong: float) -> None:
    """NaN is the best of all to `argmax`, and infinity reaches every threshold."""
    grounded = np.array([[False, True]])
    for keep in ("first", "best"):
        assert policy_outcomes(np.array([[wrong, 0.9]]), grounded, keep, 0.5) == 0
        assert np.isnan(policy_outcomes(np.array([[wrong, wrong]]), grounded, keep, 0.0))
    scores, labels = calibrated_scores(3000, 1, 0)
    spoilt, marked = (
        np.concatenate([scores, np.full((50, 1), wrong)]),
        np.concatenate([labels, np.zeros((50, 1), bool)]),
    )
    clean = choose_threshold(scores, labels, risk=0.1, confidence=0.95)
    chosen = choose_threshold(spoilt, marked, risk=0.1, confidence=0.95)
    assert isinstance(chosen, RiskGuarantee)
    assert isinstance(clean, RiskGuarantee)
    assert (chosen.threshold, chosen.observed) == (clean.threshold, clean.observed)


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1, np.nan, np.inf])
@pytest.mark.parametrize("name", ["risk", "confidence"])
def test_a_guarantee_is_about_parts_between_0_and_1(name: str, wrong: float) -> None:
    scores, grounded = calibrated_scores(30, 1, 0)
    with pytest.raises(ConfigError, match=name):
        choose_threshold(scores, grounded, **{"risk": 0.1, "confidence": 0.9, name: wrong})
    made = choose_threshold(np.full((3000, 1), 0.9), np.ones((3000, 1), dtype=bool), risk=0.1, confidence=0.9)
    assert isinstance(made, RiskGuarantee)
    with pytest.raises(ValidationError, match=name):
        RiskGuarantee(**{**made.model_dump(), name: wrong})


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": np.nan},
        {"threshold": 1.1},
        {"max_retries": -1},
        {"units": 0},
        {"accepted": np.inf},
        {"observed": -1},
    ],
)
def test_a_guarantee_in_numbers_that_are_none_is_refused(values: dict[str, float]) -> None:
    made = choose_threshold(np.full((3000, 1), 0.9), np.ones((3000, 1), dtype=bool), risk=0.1, confidence=0.9)
    assert isinstance(made, RiskGuarantee)
    with pytest.raises(ValidationError, match=next(iter(values))):
        RiskGuarantee(**{**made.model_dump(), **values})
