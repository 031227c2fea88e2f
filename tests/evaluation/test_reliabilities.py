"""Rows of the reliability table, on records whose truth is made."""

from __future__ import annotations

import math

import numpy as np
import pytest
import synthetic

from saliency_guard import Calibrator, Records
from saliency_guard.evaluation.reliabilities import (
    distinct,
    judge,
    measure,
    question_kind,
    reliabilities,
    repeated_share,
)


@pytest.fixture(scope="module")
def fitted() -> Calibrator:
    return Calibrator.fit(synthetic.records(200), features="signals", held_out=0.0)


def test_rows_by_kind_of_claim_and_of_question(fitted: Calibrator) -> None:
    rows = {row.name: row for row in reliabilities(judge(synthetic.records(100, seed=1, first=10_000), fitted))}
    assert set(rows) == {"claims", "claims: object", "answers", "answers: descriptions"}
    assert rows["answers"].count == 100
    assert rows["answers"].refused == 0.0
    plain = rows["claims"].as_dict()
    assert plain["reliability"]["skill"] == rows["claims"].reliability.skill  # type: ignore[union-attr]


def test_refused_answers_are_counted_and_not_measured() -> None:
    row = measure("x", [(0.9, True), (0.2, False), (None, False), (None, True), (0.8, False)])
    assert row is not None
    assert (row.count, row.true, row.refused) == (5, 0.4, 0.4)
    assert row.refused_wrong == pytest.approx(1 / 3)
    assert row.reliability is not None
    assert row.reliability.count == 3
    assert row.reliability.brier == pytest.approx((0.01 + 0.04 + 0.64) / 3)
    # A number that says how many are true, always: (1/3 * 2/3).
    assert row.reliability.skill == pytest.approx(1 - (0.69 / 3) / (2 / 9))
    assert measure("x", []) is None
    nothing = measure("x", [(None, True)])
    assert nothing is not None
    assert nothing.reliability is None
    assert math.isnan(nothing.refused_wrong)


def test_a_retry_that_says_the_same_again_is_counted_once(fitted: Calibrator) -> None:
    rng = np.random.default_rng(0)
    first, same, other = (synthetic.record(1, truths, rng) for truths in ([True, False], [True, False], [True]))
    records = Records(
        synthetic.FINGERPRINT,
        [first, same.model_copy(update={"draw": 1}), other.model_copy(update={"draw": 2})],
    )
    assert repeated_share(records) == 0.5
    assert [each.record.draw for each in distinct(judge(records, fitted))] == [0, 2]
    assert math.isnan(repeated_share([first]))


def test_questions_have_kinds() -> None:
    assert question_kind("Is there a cat in the image?") == "yes or no"
    assert question_kind("How many cats are there?") == "how many"
    assert question_kind("Describe the image in detail.") == "descriptions"
