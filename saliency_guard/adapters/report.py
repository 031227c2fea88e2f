"""What is known of an answer's grounding, as plain Python values: the same dict in messages, events and servers."""

from __future__ import annotations

from typing import Any

from saliency_guard.answer import GroundedAnswer, TokenGrounding
from saliency_guard.guard.outcome import GuardOutcome


def token_report(token: TokenGrounding) -> dict[str, Any]:
    """One token, as plain Python values."""
    return token.model_dump(mode="json")


def answer_report(answer: GroundedAnswer | None, outcome: GuardOutcome | None = None) -> dict[str, Any]:
    """An answer, and what a policy decided, as plain Python values.

    Args:
        answer: with its tokens; None for a fallback's plain text.
        outcome: None where there is no policy: then ``decision`` and ``threshold`` are None.
    """
    report: dict[str, Any] = {
        "grounding": answer.grounding if answer is not None else None,
        "calibrated": answer.calibrated if answer is not None else False,
        "saliency": answer.saliency if answer is not None else None,
        "shares": answer.shares if answer is not None else {},
        "scored_by": answer.model_id if answer is not None else None,
        "tokens": [token_report(token) for token in answer.tokens] if answer is not None else [],
        "decision": None,
        "reason": None,
        "threshold": None,
        "attempts": [],
        "guarantee": None,
    }
    if outcome is not None:
        report |= {
            "calibrated": outcome.calibrated,
            "decision": outcome.decision,
            "reason": outcome.reason,
            "threshold": outcome.threshold,
            "guarantee": outcome.guarantee.model_dump(mode="json") if outcome.guarantee is not None else None,
            "attempts": [
                {
                    "text": attempt.answer.text,
                    "score": attempt.score,
                    "refused": attempt.refused,
                    "reason": attempt.reason,
                    "change": attempt.change,
                }
                for attempt in outcome.attempts
            ],
        }
    return report
