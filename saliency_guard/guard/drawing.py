"""Attempts that somebody else makes: what an agent or a query engine is to ask next, and what comes of it."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from saliency_guard.answer import GroundedAnswer, Usage
from saliency_guard.chat.template import Messages
from saliency_guard.guard.outcome import Attempt, GuardOutcome
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.guard.retry import asked_to_check, weak_words


@dataclass(frozen=True, slots=True)
class Draw:
    """An answer that is to be drawn and scored next.

    Attributes:
        number: of the attempt, from 0.
        settings: ``temperature`` and ``seed`` to draw with; empty where nothing changes.
        request: a sentence to add to the question; empty where there is none.
        change: in words, what is other than in the first attempt.
        is_fallback: whether the fallback model is to be asked.
    """

    number: int
    settings: dict[str, Any]
    request: str = ""
    change: str = ""
    is_fallback: bool = False


Draws = Generator[Draw, GroundedAnswer | Attempt | None, GuardOutcome | None]
"""Is sent what each draw came to: an answer, or an attempt that is refused already, such as `NOTHING_SAID`.

None, for what is no answer (such as a call of a tool), ends it without an outcome.
"""

NOTHING_SAID = Attempt(
    answer=GroundedAnswer(
        text="",
        tokens=(),
        finish_reason="stop",
        usage=Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0),
        model_id="",
    ),
    score=None,
    refused="the answer is empty",
)
"""What an empty answer comes to: there is nothing in it to score, and it is refused."""


def draws(
    policy: GuardPolicy,
    messages: Messages | None = None,
    *,
    temperature: float | None = None,
    seed: int | None = None,
    first: int = 0,
    has_fallback: bool = False,
) -> Draws:
    """What to draw, one after the other, until an answer is good enough or nothing is left to try.

    Nothing is guaranteed of the outcome: thresholds are tested for attempts that `GuardPolicy.run` makes.

    Args:
        policy: decides, and says what a retry changes.
        messages: what is answered, for the policy's own fallback.
        temperature: of the first attempt.
        seed: of the first attempt; None draws one.
        first: number of the first attempt; above 0 it is a retry already.
        has_fallback: whether there is a fallback model.

    Raises:
        LowGroundingError: with ``on_low="raise"``, if no answer is good enough.
    """
    if has_fallback and policy.on_low == "fallback" and policy.fallback is None:
        policy = policy.model_copy(update={"on_low": "flag"})  # The model is the fallback.
    until = None if policy.deadline is None else time.monotonic() + policy.deadline
    start = random.randrange(2**31) if seed is None else seed  # noqa: S311 - no secret
    attempts: list[Attempt] = []
    for number in range(first, first + policy.retries + 1):
        last = attempts[-1].answer if attempts else None
        draw = _draw(policy, number, temperature or 0.0, start, last)
        if attempts and (not draw.change or (until is not None and time.monotonic() > until)):
            break
        answer = yield draw
        if answer is None:
            return None
        attempts.append(_attempt(policy, answer, draw.change))
        if attempts[-1].refused is None and policy.retry.keep == "first":
            break
    if not has_fallback or any(attempt.refused is None for attempt in attempts):
        return policy.decided(tuple(attempts), messages)
    answer = yield Draw(len(attempts), {}, change="the fallback model", is_fallback=True)
    if answer is None:
        return None
    attempts.append(_attempt(policy, answer, "the fallback model"))
    if attempts[-1].refused is not None:
        return policy.decided(tuple(attempts), messages, best=-1)
    return policy.decided(tuple(attempts), messages).model_copy(update={"decision": "fallback"})


def _attempt(policy: GuardPolicy, came: GroundedAnswer | Attempt, change: str) -> Attempt:
    """An attempt of its own each time: outcomes tell attempts apart by their answers."""
    if isinstance(came, Attempt):
        return came.model_copy(update={"answer": came.answer.model_copy(), "change": change})
    return policy.considered(came, change)


def _draw(policy: GuardPolicy, number: int, temperature: float, seed: int, last: GroundedAnswer | None) -> Draw:
    plan = policy.retry
    if number == 0:
        return Draw(number, {})
    settings: dict[str, Any] = {}
    changes: list[str] = []
    if plan.new_seed:
        settings = {"seed": seed + number, "temperature": max(plan.temperature, temperature)}
        changes.append(f"drawn anew at temperature {settings['temperature']:g}")
    weak: Sequence[str] = weak_words(last, plan.weak) if plan.name_spans and last is not None else ()
    if weak:
        changes.append(f"asked to check {', '.join(weak)}")
    return Draw(number, settings, asked_to_check(weak) if weak else "", "; ".join(changes))
