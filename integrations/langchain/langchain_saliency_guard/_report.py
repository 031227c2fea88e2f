"""What a message says of its grounding: plain Python values that JSON, caches and checkpointers take."""

from __future__ import annotations

from typing import Any

from langchain_core.messages.ai import UsageMetadata

from saliency_guard import GroundedAnswer, GuardOutcome, TokenGrounding

GROUNDING = "grounding"
"""Key of `response_metadata`: the whole report, once."""

GROUNDING_TOKENS = "grounding_tokens"
"""Key of `additional_kwargs`: a list of tokens, on every chunk its own."""


def token_report(token: TokenGrounding) -> dict[str, Any]:
    """One token."""
    return token.model_dump(mode="json")


def answer_report(answer: GroundedAnswer | None, outcome: GuardOutcome | None = None) -> dict[str, Any]:
    """An answer, and what a policy decided of it.

    Args:
        answer: with its tokens; None for a fallback's plain text.
        outcome: None where there is no policy: then ``decision`` and ``threshold`` are None.
    """
    found: dict[str, Any] = {
        "grounding": answer.grounding if answer is not None else None,
        "calibrated": answer.calibrated if answer is not None else False,
        "saliency": answer.saliency if answer is not None else None,
        "shares": answer.shares if answer is not None else {},
        "scored_by": answer.model_id if answer is not None else None,
        "tokens": [token_report(token) for token in answer.tokens] if answer is not None else [],
        "decision": None,
        "threshold": None,
        "attempts": [],
        "promise": None,
    }
    if outcome is not None:
        found |= {
            "calibrated": outcome.calibrated,
            "decision": outcome.decision,
            "threshold": outcome.threshold,
            "promise": outcome.promise.model_dump(mode="json") if outcome.promise is not None else None,
            "attempts": [
                {"text": one.answer.text, "score": one.score, "refused": one.refused, "change": one.change}
                for one in outcome.attempts
            ],
        }
    return found


def usage(answers: list[GroundedAnswer]) -> UsageMetadata:
    """Tokens of all attempts together: that is what was computed."""
    read = sum(answer.usage.prompt_tokens for answer in answers)
    written = sum(answer.usage.completion_tokens for answer in answers)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
