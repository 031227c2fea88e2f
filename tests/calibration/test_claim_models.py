"""Claims and whole answers under models whose numbers are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from saliency_guard.calibration.claim_models import ClaimModel, judge_claims
from saliency_guard.calibration.linear import LinearModel, ProbabilityMap

IDENTITY = LinearModel(median=(0.0,), mean=(0.0,), scale=(1.0,), coefficient=(1.0,), intercept=0.0)
# Of `answer_summary` the first: the log of the product of the claims' probabilities.
PRODUCT = LinearModel(
    median=(0.0,) * 6, mean=(0.0,) * 6, scale=(1.0,) * 6, coefficient=(1.0, *(0.0,) * 5), intercept=0.0
)


def fitted(**changes: object) -> SimpleNamespace:
    values = {
        "kinds": (ClaimModel(kind="object", model=IDENTITY, map=ProbabilityMap()),),
        "claims_labelled": True,
        "answer_model": PRODUCT,
        "answer_map": ProbabilityMap(),
    }
    return SimpleNamespace(**(values | changes))


def test_a_claim_has_the_probability_of_its_log_odds_and_an_answer_none_above_it() -> None:
    odds = np.array([[2.0], [-1.0]])
    judged = judge_claims(fitted(), ["object", "object"], odds, domain=(0.5,))
    expected = 1 / (1 + np.exp(-odds[:, 0]))
    assert judged.claims == pytest.approx(expected)
    product = expected.prod()
    assert judged.answer == pytest.approx(min(product / (1 + product), expected.min()))
    assert (judged.reason, judged.domain) == (None, (0.5,))


def test_what_is_not_covered_has_no_number_and_a_reason() -> None:
    row = np.array([[2.0], [2.0]])
    open_kind = judge_claims(fitted(), ["object", "place"], row)
    assert open_kind.claims[0] is not None
    assert (open_kind.claims[1], open_kind.answer) == (None, None)
    assert "(place)" in open_kind.reason
    assert "no claim" in judge_claims(fitted(), [], row[:0]).reason
    single = judge_claims(fitted(answer_model=None), ["object"], row[:1])
    assert single.claims[0] is not None
    assert "says nothing about whole answers" in single.reason
    assert judge_claims(fitted(claims_labelled=False), ["object"], row[:1]).claims == (None,)
