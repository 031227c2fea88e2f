"""Answers that no score stands behind: the attempts and outcomes that say why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from saliency_guard.answer import GroundedAnswer
from saliency_guard.errors import ConfigError, SaliencyGuardError
from saliency_guard.guard.decision import NO_ARGUMENTS
from saliency_guard.guard.fields import JudgedText
from saliency_guard.guard.outcome import EMPTY_ANSWER, Attempt

OnError = Literal["unscored", "raise"]
"""What a scorer's own trouble does: the answer counts as not judged, and says why; or the error is raised."""

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


def nothing_to_score(
    text: JudgedText | None, other_subject: Callable[[str], str | None], should_score: Callable[[], bool] | None
) -> str | None:
    """Why there is nothing to score of an answer; None where there is.

    Args:
        text: what it claims; None where it claims nothing.
        other_subject: why an answer is about no picture; None where it may be.
        should_score: the caller's own say, instead of that; None where there is none.
    """
    if text is None:
        return NO_ARGUMENTS
    if should_score is not None:
        return None if should_score() else SAID_SO
    return other_subject(text.text)


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
    return EMPTY_ANSWER.answer.model_copy(update={"text": text})
