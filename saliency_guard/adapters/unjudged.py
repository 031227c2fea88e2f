"""Answers that no score stands behind: the attempts and outcomes that say why."""

from __future__ import annotations

from typing import Literal

from saliency_guard.answer import GroundedAnswer, Usage
from saliency_guard.errors import ConfigError, SaliencyGuardError
from saliency_guard.guard.outcome import EMPTY_ANSWER, Attempt, GuardOutcome
from saliency_guard.guard.policy import GuardPolicy

OnError = Literal["unscored", "raise"]
"""What a scorer's own trouble does: the answer counts as not judged, and says why; or the error is raised."""

NO_ARGUMENTS = "a tool call without arguments claims nothing"
SAID_SO = "should_score said that there is nothing to score"
PICTURE_GONE = (
    "the picture is no longer in the chat (it was summarised or trimmed away), so nothing can judge the answer"
)


def unscored_attempt(text: str, reason: str) -> Attempt:
    """An answer that should be judged and cannot be; a policy's ``unscored`` decides what becomes of it."""
    return Attempt(answer=_plain(text), score=None, refused=None, reason=reason)


def empty_attempt() -> Attempt:
    """An empty answer, which is refused; outcomes tell attempts apart by their answers, so each has its own."""
    return EMPTY_ANSWER.model_copy(update={"answer": _plain("")})


def not_applicable(text: str, reason: str, policy: GuardPolicy) -> GuardOutcome:
    """The outcome of an answer that there is nothing to judge about: it passes, and says so."""
    return GuardOutcome(
        answer=None,
        text=text,
        decision="not_applicable",
        attempts=(),
        threshold=policy.min_grounding,
        calibrated=False,
        reason=reason,
        passes=True,
    )


def scorer_trouble(error: SaliencyGuardError, on_error: OnError) -> str:
    """Why an answer is not judged, after an error of the scorer.

    Args:
        error: what the scorer raised.
        on_error: ``"raise"`` raises it.

    Raises:
        ConfigError: always where the settings are wrong: that is no trouble with this answer.
    """
    if on_error == "raise" or isinstance(error, ConfigError):
        raise error
    return f"the scorer could not judge it: {error}"


def _plain(text: str) -> GroundedAnswer:
    usage = Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
    return GroundedAnswer(text=text, tokens=(), finish_reason="stop", usage=usage, model_id="")
