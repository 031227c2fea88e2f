"""One judgement of one span, in the words that observability tools share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saliency_guard.adapters.report import reason_of
from saliency_guard.answer import GroundedAnswer
from saliency_guard.guard.outcome import GuardOutcome, LowGroundingError

Name = Literal["grounding", "guardrail"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An answer's grounding, or the decision of a policy.

    Attributes:
        name: ``"grounding"`` of an answer, or ``"guardrail"`` of a policy's run.
        score: the calibrated grounding; None where it is not known.
        label: ``"scored"`` or ``"unscored"`` of an answer; the decision of a policy.
        explanation: why there is no score, or why the policy decided so; None where there is nothing to say.
        model: what wrote or scored the answer.
        trace_id: of the span, as 32 hexadecimal digits.
        span_id: of the span, as 16 hexadecimal digits.
    """

    name: Name
    score: float | None
    label: str
    explanation: str | None
    model: str
    trace_id: str
    span_id: str


def grounding_of(answer: GroundedAnswer, trace_id: str, span_id: str) -> Evaluation:
    """The evaluation of an answer."""
    score = answer.grounding
    return Evaluation(
        name="grounding",
        score=score,
        label="unscored" if score is None else "scored",
        explanation=reason_of(answer),
        model=answer.model_id,
        trace_id=trace_id,
        span_id=span_id,
    )


def decision_of(outcome: GuardOutcome | LowGroundingError, trace_id: str, span_id: str) -> Evaluation:
    """The evaluation of a policy's run: what it decided, or that it let no answer through."""
    attempts = outcome.attempts
    problems = [attempt.problem for attempt in attempts if attempt.problem is not None]
    if isinstance(outcome, LowGroundingError):
        decision, explanation = "raised", problems[-1] if problems else None
    else:
        decision = outcome.decision
        silent = decision in {"accepted", "not_applicable"}
        explanation = outcome.reason or (problems[-1] if problems and not silent else None)
    return Evaluation(
        name="guardrail",
        score=outcome.score,
        label=decision,
        explanation=explanation,
        model=outcome.answer.model_id if outcome.answer is not None else "",
        trace_id=trace_id,
        span_id=span_id,
    )
