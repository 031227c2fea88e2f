"""Making the attempts of a policy: one after the other, each with its change, within a deadline."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt

from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.decoding.options import Deadline
from saliency_guard.errors import CancelledError, DeadlineError
from saliency_guard.guard.outcome import Attempt
from saliency_guard.guard.retry import RetryPlan, Try, retry
from saliency_guard.lvlm import LVLM


class _Retrying(Retrying):
    """tenacity keeps its counts by thread; a generator may be continued in another one."""

    @property
    def statistics(self) -> dict[str, Any]:
        counts: dict[str, Any] = self.__dict__.setdefault("_counts", {})
        return counts


@dataclass(slots=True, eq=False)
class Run:
    """The attempts of one call.

    Attributes:
        lvlm: answers.
        messages: the question.
        generation: keyword arguments of `LVLM.generate`.
        plan: what a retry changes.
        retries: the most answers after the first.
        signals: that the answers need.
        deadline: seconds for all of them; None is no limit.
        cancel: stops between two tokens once it is set.
        considered: an answer, and what was changed for it, to an attempt.
        made: the attempts so far.
    """

    lvlm: LVLM
    messages: Messages
    generation: Mapping[str, Any]
    plan: RetryPlan
    retries: int
    signals: tuple[str, ...]
    deadline: float | None
    cancel: threading.Event
    considered: Callable[[GroundedAnswer, str], Attempt]
    made: list[Attempt] = field(default_factory=list)
    _until: float | None = None
    _seed: int = 0
    _done: set[tuple[object, ...]] = field(default_factory=set)
    _prepared: PreparedPrompt | None = None
    _timeout: Deadline = field(default_factory=lambda: Deadline(None))

    def attempts(self) -> Iterator[Attempt]:
        """Attempts as they are made, until one is good enough, nothing is left to change, or the deadline passes."""
        self._until = time.monotonic() + self.deadline if self.deadline is not None else None
        self._timeout = Deadline(self.generation.get("timeout"))  # One for all attempts.
        asked = self.generation.get("seed")
        self._seed = random.randrange(2**31) if asked is None else asked  # noqa: S311 - no secret

        def give_up(_: RetryCallState) -> None: ...

        for trial in _Retrying(
            stop=stop_after_attempt(self.retries + 1), retry=retry_if_result(bool), retry_error_callback=give_up
        ):
            attempt = self._next()
            if attempt is not None:
                self.made.append(attempt)
                yield attempt
            go_on = attempt is not None and (self.plan.keep == "best" or attempt.refused is not None)
            trial.retry_state.set_result(go_on)

    def _next(self) -> Attempt | None:
        """One more attempt, if it would be another one and there is time."""
        last = self.made[-1].answer if self.made else None
        planned = retry(
            self.plan, len(self.made), messages=self.messages, generation=self.generation, seed=self._seed, last=last
        )
        if planned.repeats in self._done:
            return None
        self._done.add(planned.repeats)
        answer = self._answer(planned)
        return None if answer is None else self.considered(answer, planned.change)

    def _answer(self, planned: Try) -> GroundedAnswer | None:
        """One answer, token by token; None if the deadline passes and there is another answer already."""
        self._check_cancelled()
        steps = self.lvlm.stream(
            self._prompt(planned.messages), **{**planned.generation, "timeout": None, "signals": self.signals}
        )
        for step in steps:
            self._check_cancelled()
            self._timeout.check()
            if step.answer is not None:
                return step.answer
            if self._until is not None and time.monotonic() > self._until:
                if self.made:
                    return None
                msg = f"the deadline of {self.deadline:g} s passed before the first answer was finished"
                raise DeadlineError(msg)
        raise AssertionError  # A stream ends with its answer.

    def _prompt(self, messages: Messages) -> PreparedPrompt:
        """Messages, prepared; those of the first attempt once for all attempts that do not change them."""
        if messages is not self.messages:
            return self.lvlm.prepare(messages)
        if self._prepared is None:
            self._prepared = self.lvlm.prepare(messages)
        return self._prepared

    def _check_cancelled(self) -> None:
        if self.cancel.is_set():
            msg = "the run was cancelled"
            raise CancelledError(msg)
