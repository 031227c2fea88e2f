"""An answer's numbers are probabilities and parts, or it is none."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from saliency_guard import Claim, ConfigError, GroundedAnswer, RepairGuarantee, TokenGrounding, UnjudgedError, Usage
from saliency_guard.claims.extract import EnglishClaims

TOKEN: dict[str, Any] = {"text": "cat", "token_id": 1, "position": 0, "logprob": -1.0, "saliency": None}
ANSWER: dict[str, Any] = {
    "text": "cat",
    "tokens": (),
    "finish_reason": "stop",
    "usage": Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
    "model_id": "none",
}
NO_PROBABILITY = [float("nan"), float("inf"), -float("inf"), -1e-9, 1.0001]


@pytest.mark.parametrize("wrong", NO_PROBABILITY)
def test_a_grounding_is_a_probability(wrong: float) -> None:
    with pytest.raises(ValidationError, match="grounding"):
        GroundedAnswer(**ANSWER, grounding=wrong)
    with pytest.raises(ValidationError, match="grounding"):
        TokenGrounding(**TOKEN, grounding=wrong)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_share_is_a_part(wrong: float) -> None:
    with pytest.raises(ValidationError, match="shares"):
        TokenGrounding(**TOKEN, shares={"image_0": wrong})


@pytest.mark.parametrize("right", [None, 0.0, 0.5, 1.0])
def test_what_is_one_is_kept(right: float | None) -> None:
    assert GroundedAnswer(**ANSWER, grounding=right).grounding == right
    assert TokenGrounding(**TOKEN, grounding=right, shares={"text": 1.0000001}).grounding == right


def claimed(text: str, *groundings: float | None) -> GroundedAnswer:
    """An answer whose claims have these groundings."""
    claims = [
        Claim(
            text=text[claim.start : claim.stop],
            kind=claim.kind,
            span=(claim.start, claim.stop),
            statement=claim.statement,
            grounding=grounding,
            negated=claim.negated,
            noun=claim.noun,
            other=claim.other,
        )
        for claim, grounding in zip(EnglishClaims()(text), groundings, strict=True)
    ]
    return GroundedAnswer(**{**ANSWER, "text": text}, claims=tuple(claims), repairs=(GUARANTEE,))


GUARANTEE = RepairGuarantee(
    kind="any", risk=0.1, confidence=0.95, threshold=0.6, units=100, observed=0.01, true_kept=0.9, emptied=0.1
)
TEXT = "The image shows a dog, a cat and a cup. The cat is on the left."


def test_a_repair_leaves_out_what_does_not_hold_and_what_hangs_on_it() -> None:
    repaired = claimed(TEXT, 0.9, 0.2, 0.8, 0.9).repaired(threshold=0.5)
    assert repaired.text == "The image shows a dog and a cup."
    assert [claim.text for claim in repaired.kept] == ["dog", "cup"]
    assert [claim.text for claim in repaired.dropped] == ["cat", "on the left"]
    assert repaired.guarantee is None
    assert claimed(TEXT, 0.9, 0.9, 0.8, 0.9).repaired(threshold=0.5).text == TEXT
    assert claimed(TEXT, 0.1, 0.1, 0.1, 0.1).repaired(threshold=0.5).text == ""


def test_a_repair_with_a_guarantee_has_the_calibrations_threshold() -> None:
    answer = claimed(TEXT, 0.9, 0.55, 0.8, 0.9)
    repaired = answer.repaired(risk=0.15)
    assert repaired.guarantee == GUARANTEE
    assert repaired.text == "The image shows a dog and a cup."
    with pytest.raises(ConfigError, match="lowest risk"):
        answer.repaired(risk=0.05)
    for wrong in ({}, {"risk": 0.1, "threshold": 0.5}):
        with pytest.raises(ConfigError, match="how to repair"):
            answer.repaired(**wrong)


def test_what_was_not_judged_cannot_be_repaired() -> None:
    with pytest.raises(UnjudgedError, match="unlike"):
        claimed(TEXT, 0.9, None, 0.8, 0.9).model_copy(update={"grounding_reason": "unlike"}).repaired(threshold=0.5)
    with pytest.raises(UnjudgedError):
        GroundedAnswer(**ANSWER).repaired(threshold=0.5)


def test_the_plain_dict_has_claims_and_no_guarantees() -> None:
    plain = claimed(TEXT, 0.9, 0.2, 0.8, 0.9).to_dict()
    assert plain["claims"][0]["grounding"] == 0.9
    assert "repairs" not in plain


def test_a_page_shows_what_a_repair_left_out() -> None:
    repaired = claimed(TEXT, 0.9, 0.2, 0.8, 0.9).repaired(threshold=0.5)
    page = repaired.to_html()
    assert "2 left out" in page
    assert "<del>cat</del>" in page
    assert "nothing is guaranteed" in page
    promised = claimed(TEXT, 0.9, 0.55, 0.8, 0.9).repaired(risk=0.15).to_html()
    assert "the risk (any) is at most 0.1" in promised
    plain = claimed(TEXT, 0.9, 0.2, 0.8, 0.9).to_html(threshold=0.7)
    assert "left out" not in plain
    assert '"threshold":0.7' in plain


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 7, "0.5"])
def test_a_threshold_to_show_is_a_probability(threshold: Any) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        GroundedAnswer(**ANSWER).to_html(threshold=threshold)
