"""Which tokens decide a claim, and what a model of answers sees of all claims."""

from __future__ import annotations

import numpy as np
import pytest

from saliency_guard.calibration.claim_features import ANSWER_FEATURES, answer_summary, claim_tokens
from saliency_guard.claims.extract import EnglishClaims

PIECES = ["There", " are", " two", " bl", "ack", " cats", ".", " The", " cats", " are", " on", " the", " left"]


def test_a_claim_is_decided_where_its_word_begins() -> None:
    claims = {claim.kind: claim_tokens(PIECES, claim) for claim in EnglishClaims()("".join(PIECES))}
    assert claims["number"] == (2,)
    assert claims["object"] == (5,)
    assert claims["place"] == (12,)


def test_a_relation_is_decided_by_the_other_thing() -> None:
    pieces = ["There", " is", " a", " cat", ".", " The", " cat", " is", " next", " to", " the", " dog", "."]
    (place,) = (claim for claim in EnglishClaims()("".join(pieces)) if claim.kind == "place")
    assert [pieces[index] for index in claim_tokens(pieces, place)] == [" dog"]


def test_a_yes_or_no_is_decided_by_its_first_token() -> None:
    pieces = ["Y", "es", "."]
    (claim,) = EnglishClaims()("Yes.", "Is there a cat?")
    assert claim_tokens(pieces, claim) == (0,)


def test_a_sentence_is_decided_by_its_words_that_count() -> None:
    pieces = ["It", " was", " built", " in", " Paris", "."]
    (claim,) = EnglishClaims()("".join(pieces))
    assert claim.kind == "statement"
    decided = [pieces[index] for index in claim_tokens(pieces, claim)]
    assert " Paris" in decided
    assert "." not in decided


def test_the_summary_is_what_independent_claims_would_come_to_and_the_least() -> None:
    odds = np.array([2.0, -1.0, 0.5])
    summary = answer_summary(odds, ["object", "number", "place"])
    probabilities = 1 / (1 + np.exp(-odds))
    assert summary.shape == (ANSWER_FEATURES,)
    assert summary[0] == pytest.approx(np.log(probabilities.prod()))
    assert summary[1:].tolist() == pytest.approx([-1.0, 0.5, 0.5, np.log(3), 0.0])
    assert answer_summary(odds[:1], ["yes_no"])[5] == 1.0
