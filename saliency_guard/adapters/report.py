"""The report of an answer's grounding, as plain Python values: the same dict in messages, events and servers.

How much of it there is, is a setting: ``"summary"`` (no tokens, no refused text), ``"tokens"`` (every token with its
sources, too) or ``"full"`` (the texts of all attempts, too: the only place where a refused text is shown).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from saliency_guard.answer import Claim, GroundedAnswer, TokenGrounding
from saliency_guard.guard.decision import NO_GROUNDING
from saliency_guard.guard.outcome import Attempt, GuardOutcome, LowGroundingError

ReportDetail = Literal["summary", "tokens", "full"]

CLAIM_FIELDS = frozenset({"text", "kind", "span", "grounding", "verified", "box", "source"})
"""What is told of a claim."""
_PLAIN_TEXT = "the text of a fallback is not scored"


def token_report(token: TokenGrounding) -> dict[str, Any]:
    """One token, as plain Python values."""
    return token.model_dump(mode="json")


def attempt_report(number: int, attempt: Attempt, detail: ReportDetail = "summary") -> dict[str, Any]:
    """One attempt, as plain Python values.

    Args:
        number: of the attempt within its call, from 0.
        attempt: the attempt.
        detail: ``"full"`` adds its text.
    """
    report = {
        "attempt": number,
        "verdict": attempt.verdict,
        "score": attempt.score,
        "reason": attempt.problem,
        "change": attempt.change,
    }
    return {**report, "text": attempt.answer.text} if detail == "full" else report


def answer_report(
    answer: GroundedAnswer | None, outcome: GuardOutcome | None = None, *, detail: ReportDetail = "summary"
) -> dict[str, Any]:
    """An answer, and what a policy decided, as plain Python values.

    Args:
        answer: with its tokens; None for a text that is not scored.
        outcome: None where there is no policy: then ``decision`` and ``threshold`` are None.
        detail: how much the report holds.
    """
    report: dict[str, Any] = {
        "score": answer.grounding if answer is not None else None,
        "calibrated": answer.calibrated if answer is not None else False,
        "reason": reason_of(answer, outcome),
        "decision": None,
        "threshold": None,
        "claims": _claims(answer.claims if answer is not None else ()),
        "shares": answer.shares if answer is not None else {},
        "attempts": [],
    }
    if outcome is not None:
        report |= {
            "calibrated": outcome.calibrated,
            "decision": outcome.decision,
            "threshold": outcome.threshold,
            "attempts": _attempts(outcome.attempts, detail),
        }
        if outcome.repaired is not None:  # What was left out is shown nowhere.
            report["claims"] = _claims(outcome.repaired.kept)
    if detail != "summary":
        shown = answer if outcome is None or outcome.repaired is None else None
        report["tokens"] = [token_report(token) for token in shown.tokens] if shown is not None else []
    return report


def _claims(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """Claims as plain Python values, without what is not known of them."""
    return [claim.model_dump(mode="json", include=set(CLAIM_FIELDS), exclude_none=True) for claim in claims]


def raised_report(error: LowGroundingError, *, detail: ReportDetail = "summary") -> dict[str, Any]:
    """The report of an answer that a policy did not give out, for events: its decision is ``"raised"``."""
    best = next((attempt for attempt in error.attempts if attempt.answer is error.answer), error.attempts[-1])
    return answer_report(None) | {
        "score": error.score,
        "calibrated": error.answer.calibrated,
        "reason": best.problem,
        "decision": "raised",
        "threshold": error.threshold,
        "attempts": _attempts(error.attempts, detail),
    }


def _attempts(attempts: Sequence[Attempt], detail: ReportDetail) -> list[dict[str, Any]]:
    return [attempt_report(number, attempt, detail) for number, attempt in enumerate(attempts)]


def reason_of(answer: GroundedAnswer | None, outcome: GuardOutcome | None = None) -> str | None:
    """Why a policy decided as it did, or why there is no score; None where there is nothing to say.

    Args:
        answer: as for `answer_report`.
        outcome: as for `answer_report`.
    """
    reason = _reason_for(outcome) if outcome is not None else None
    if reason is not None or (outcome is not None and outcome.decision == "not_applicable"):
        return reason
    if answer is None:
        return _PLAIN_TEXT
    return None if answer.grounding is not None else answer.grounding_reason or NO_GROUNDING


def is_low(decision: str | None, *, passes: bool) -> bool:
    """Whether an answer is returned that must not be relied on.

    Args:
        decision: of the policy.
        passes: as of `GuardOutcome`.
    """
    return not passes and decision in {"flagged", "unscored", "repaired"}


def warning(decision: str | None, reason: str | None, evidence: str) -> str:
    """What an agent reads beside such an answer in a tool's result.

    Args:
        decision: of the policy.
        reason: why.
        evidence: what the answer should be grounded in, as ``"its picture"``.
    """
    verdict = {
        "flagged": f"is not grounded in {evidence}",
        "repaired": f"is empty, because none of its claims is grounded in {evidence}",
    }.get(decision or "", "was not judged")
    return f"[Warning: this answer {verdict}: {reason}. Do not rely on it.]"


def _reason_for(outcome: GuardOutcome) -> str | None:
    """Why a policy decided as it did; None where it accepted the answer, or there is nothing to say."""
    if outcome.reason is not None or outcome.decision == "accepted" or not outcome.attempts:
        return outcome.reason
    chosen = outcome.chosen
    deciding = outcome.attempts[chosen if chosen is not None else -1]
    # A fallback model's own answer is accepted: the reason is what was wrong with those before it.
    return deciding.problem or next((attempt.problem for attempt in outcome.attempts if attempt.problem), None)
