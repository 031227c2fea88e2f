"""Judgements in the words of observability tools."""

from __future__ import annotations

from saliency_guard import GroundedAnswer, GuardPolicy, Usage
from saliency_guard.telemetry.evaluation import decision_of, grounding_of

USAGE = Usage(prompt_tokens=1, completion_tokens=0, total_tokens=1)


def answer(grounding: float | None, reason: str | None = None) -> GroundedAnswer:
    return GroundedAnswer(
        text="A dog.",
        tokens=(),
        finish_reason="stop",
        usage=USAGE,
        model_id="m",
        grounding=grounding,
        grounding_reason=reason,
        calibrated=grounding is not None,
    )


def test_an_answer_is_scored_or_says_why_it_is_not() -> None:
    scored = grounding_of(answer(0.9), "trace", "span")
    assert (scored.name, scored.score, scored.label, scored.explanation) == ("grounding", 0.9, "scored", None)
    assert (scored.model, scored.trace_id, scored.span_id) == ("m", "trace", "span")
    unscored = grounding_of(answer(None, "it makes no claim"), "trace", "span")
    assert (unscored.score, unscored.label, unscored.explanation) == (None, "unscored", "it makes no claim")
    assert grounding_of(answer(None), "trace", "span").explanation


def test_a_decision_has_its_reason_where_there_is_one() -> None:
    policy = GuardPolicy(min_grounding=0.5)
    accepted = decision_of(policy.check(answer(0.9)), "trace", "span")
    assert (accepted.name, accepted.label, accepted.score, accepted.explanation) == ("guardrail", "accepted", 0.9, None)
    flagged = decision_of(policy.check(answer(0.1)), "trace", "span")
    assert flagged.label == "flagged"
    assert "below" in str(flagged.explanation)
    unscored = decision_of(policy.check(answer(None, "it makes no claim")), "trace", "span")
    assert (unscored.label, unscored.explanation) == ("unscored", "it makes no claim")
