"""What chains and agents call: one answer, with or without a policy, as a sequence of what happens."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from saliency_guard.answer import GroundedAnswer, TokenGrounding, Usage
from saliency_guard.errors import CancelledError, DeadlineError
from saliency_guard.guard.outcome import Attempt, GuardOutcome
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.lvlm import LVLM


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer.

    Attributes:
        text: to show.
        answer: it is; None for a fallback's plain text.
        outcome: what the policy decided; None without one.
        considered: every answer that was written for it.
    """

    text: str
    answer: GroundedAnswer | None
    outcome: GuardOutcome | None
    considered: tuple[GroundedAnswer, ...]

    @property
    def report(self) -> dict[str, Any]:
        """All that is known of its grounding, as plain Python values."""
        return answer_report(self.answer, self.outcome)

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together: that is what was computed."""
        read = sum(answer.usage.prompt_tokens for answer in self.considered)
        written = sum(answer.usage.completion_tokens for answer in self.considered)
        return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


Happening = TokenGrounding | Attempt | Finished


def happenings(
    lvlm: LVLM,
    messages: Sequence[Mapping[str, Any]],
    generation: Mapping[str, Any],
    *,
    cancel: threading.Event,
    policy: GuardPolicy | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    timeout: float | None = None,
) -> Generator[Happening, None, None]:
    """Tokens as they are written, or under a policy attempts as they are made; the end last.

    Args:
        lvlm: answers.
        messages: as for `LVLM.generate`.
        generation: keyword arguments of `LVLM.generate`.
        cancel: stops the work between two tokens once it is set.
        policy: decides; None gives out whatever is written.
        tools: that the prompt tells of.
        timeout: seconds; None is no limit.

    Raises:
        DeadlineError: if the timeout passes.
        CancelledError: if ``cancel`` is set.
        LowGroundingError: by the policy.
    """
    able = lvlm.with_tools(tools) if tools else lvlm
    with _limited(timeout, cancel):
        if policy is None:
            for step in able.stream(messages, **generation):
                if cancel.is_set():
                    msg = "the call was cancelled"
                    raise CancelledError(msg)
                if step.answer is not None:
                    yield finished(step.answer)
                elif step.token is not None:
                    yield step.token
            return
        for made in policy.steps(able, messages, cancel=cancel, **generation):
            if isinstance(made, Attempt):
                yield made
            else:
                yield Finished(made.text, made.answer, made, tuple(one.answer for one in made.attempts))


def finished(answer: GroundedAnswer) -> Finished:
    """The end of an answer that no policy looked at."""
    return Finished(answer.text, answer, None, (answer,))


@contextmanager
def _limited(timeout: float | None, cancel: threading.Event) -> Iterator[None]:
    """Set ``cancel`` when the time is over, and say so."""
    if timeout is None:
        yield
        return
    passed = threading.Event()

    def over() -> None:
        passed.set()
        cancel.set()

    timer = threading.Timer(timeout, over)
    timer.daemon = True
    timer.start()
    try:
        yield
    except CancelledError as error:
        if not passed.is_set():
            raise
        msg = f"the answer was not finished within timeout={timeout:g} s"
        raise DeadlineError(msg) from error
    finally:
        timer.cancel()


def token_report(token: TokenGrounding) -> dict[str, Any]:
    """One token, as plain Python values."""
    return token.model_dump(mode="json")


def answer_report(answer: GroundedAnswer | None, outcome: GuardOutcome | None = None) -> dict[str, Any]:
    """An answer, and what a policy decided of it, as plain Python values.

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
        "reason": None,
        "threshold": None,
        "attempts": [],
        "guarantee": None,
    }
    if outcome is not None:
        found |= {
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
    return found
