"""The retry loop: what a retry changes, when another attempt is made, and how attempts are written.

There is one loop, `retry_loop`. It yields every attempt as a plan and is sent the judged attempt. A policy drives it
with its own `LVLM` (`AttemptWriter`); agents and query engines drive it by asking their own model
(`GuardPolicy.planned_attempts`). It is made of tenacity: users may pass tenacity's own stop, wait and callback objects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field
from tenacity import RetryCallState, Retrying, retry_if_result

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.guarantee import Keep
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.decoding.options import SMALLEST_TEMPERATURE
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.errors import CancelledError, ConfigError, DeadlineError
from saliency_guard.guard.continuation import continued, kept_text
from saliency_guard.guard.outcome import Attempt
from saliency_guard.lvlm import LVLM
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.settings import Settings

_LARGEST_ALPHA = 0.99
_LARGEST_BETA = 10.0
_MOST_SPANS = 8

Stop = Callable[[RetryCallState], bool]
"""When there are no more attempts: tenacity's ``stop_after_delay(10)``, ``stop_when_event_set(event)``, ..."""

Wait = Callable[[RetryCallState], float]
"""Seconds before a retry: tenacity's ``wait_fixed(1)``, ``wait_exponential()``, ..."""

Callback = Callable[[RetryCallState], Any]
"""Called by tenacity; ``state.outcome.result()`` is the `Attempt`."""


def _drawn_at(temperature: float) -> float:
    if 0.0 < temperature < SMALLEST_TEMPERATURE:
        msg = f"must be 0 (greedy), or {SMALLEST_TEMPERATURE} or more"
        raise ValueError(msg)
    return temperature


class RetryPlan(Settings):
    """What a retry changes.

    Attributes:
        temperature: retries are sampled at this temperature at least; where the first attempt was greedy, a new seed
            alone would change nothing.
        new_seed: every attempt has another seed.
        alpha_step: added to SGRS's ``alpha`` for every retry; SGRS has to be on.
        beta_step: added to LocoRE's ``beta`` for every retry; LocoRE has to be on.
        name_spans: the prompt of a retry names the words that had a low grounding.
        weak: words below this grounding are named.
        keep: the ``"first"`` answer that is good enough, or the ``"best"`` of all attempts (which makes them all).
        again: whether a retry writes the ``"whole"`` answer again, or keeps the sentences whose claims hold and goes on
            after them (``"failed"``); all of it is judged as one answer. Where nothing holds it is written anew.
    """

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False), AfterValidator(_drawn_at)] = 0.7
    new_seed: bool = True
    alpha_step: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    beta_step: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    name_spans: bool = False
    weak: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    keep: Keep = "first"
    again: Literal["whole", "failed"] = "whole"

    @property
    def changes_something(self) -> bool:
        """Whether a retry can differ from the first attempt at all."""
        asks_otherwise = self.name_spans or self.again == "failed"
        return self.new_seed or self.alpha_step > 0 or self.beta_step > 0 or asks_otherwise


@dataclass(frozen=True, slots=True)
class PlannedAttempt:
    """The next attempt to make.

    Attributes:
        number: of the attempt, from 0.
        settings: generation options that differ from the first attempt's: ``temperature``, ``seed``, ``sgrs``,
            ``locore``.
        request: a sentence to add to the question; empty where there is none.
        change: how it differs from the first attempt, in words.
        wait: seconds to sleep before it is made.
        is_fallback: whether the fallback model is to be asked.
        kept: the sentences of the previous attempt whose claims hold, to go on after; empty for a new answer.
    """

    number: int
    settings: dict[str, Any] = field(default_factory=dict)
    request: str = ""
    change: str = ""
    wait: float = 0.0
    is_fallback: bool = False
    kept: str = ""


@dataclass(slots=True)
class AttemptPlanner:
    """Plans attempts, each unlike all before it.

    Attributes:
        plan: what a retry changes.
        seed: of the first attempt.
        temperature: of the first attempt; None if unknown (a third-party model).
        sgrs: of the first attempt; None where it is off, or the model has none.
        locore: of the first attempt; None where it is off, or the model has none.
        names_seed: whether the seed is part of the description: not every model takes one.
        asks_again: whether the model may take no settings at all: then every retry changes its prompt.
        threshold: claims below it are those that failed; None names none.
    """

    plan: RetryPlan
    seed: int
    temperature: float | None = 0.0
    sgrs: SGRSConfig | None = None
    locore: LocoREConfig | None = None
    names_seed: bool = False
    asks_again: bool = False
    threshold: float | None = None
    _planned: set[str] = field(default_factory=set)

    def require_changes(self) -> None:
        """Check that the plan's changes can be made to these attempts.

        Raises:
            ConfigError: if a change has nothing to work on, or the retries could only repeat the first attempt.
        """
        for step, value, setting, name in (
            ("alpha_step", self.plan.alpha_step, self.sgrs, "SGRS"),
            ("beta_step", self.plan.beta_step, self.locore, "LocoRE"),
        ):
            if value > 0 and setting is None:
                msg = (
                    f"retry.{step}={value:g} changes {name}, which is off or which the answering model does not have: "
                    f"set {name.lower()}={name}Config(), or leave {step} out"
                )
                raise ConfigError(msg)
        samples = self.temperature is None or max(self.plan.temperature, self.temperature) > 0
        if not samples and not self.plan.model_copy(update={"new_seed": False}).changes_something:
            msg = (
                "retries at temperature 0 would only repeat the first attempt, whatever their seed: set "
                "retry=RetryPlan(temperature=0.7), or name_spans=True"
            )
            raise ConfigError(msg)

    def planned(self, number: int, last: GroundedAnswer | None) -> PlannedAttempt | None:
        """Attempt ``number``; None if it could only repeat another one.

        Args:
            number: of the attempt; 0 changes nothing.
            last: the answer before it, whose weak words may be named.
        """
        attempt = PlannedAttempt(number) if number == 0 else self._changed(number, last)
        identity = self._identity(attempt)
        if identity in self._planned:
            return None
        self._planned.add(identity)
        return attempt

    def _changed(self, number: int, last: GroundedAnswer | None) -> PlannedAttempt:
        plan = self.plan
        settings: dict[str, Any] = {}
        changes: list[str] = []
        if plan.new_seed:
            settings["seed"] = self.seed + number
            settings["temperature"] = max(plan.temperature, self.temperature or 0.0)
            drawn = f"seed {settings['seed']}" if self.names_seed else "sampled again"
            if not self.asks_again:  # Else nobody knows whether the model takes them.
                changes.append(f"{drawn} at temperature {settings['temperature']:g}")
        if plan.alpha_step and self.sgrs is not None:
            alpha = max(self.sgrs.alpha, min(_LARGEST_ALPHA, self.sgrs.alpha + number * plan.alpha_step))
            settings["sgrs"] = self.sgrs.model_copy(update={"alpha": alpha})
            changes.append(f"alpha {alpha:g}")
        if plan.beta_step and self.locore is not None:
            beta = max(self.locore.beta, min(_LARGEST_BETA, self.locore.beta + number * plan.beta_step))
            settings["locore"] = self.locore.model_copy(update={"beta": beta})
            changes.append(f"beta {beta:g}")
        words = weak_words(last, plan.weak) if plan.name_spans and last is not None else []
        if words:
            # Their number: a change is reported where a refused answer's words must not be.
            changes.append(f"asked to check {len(words)} word{'s' if len(words) > 1 else ''}")
        request = check_request(words) if words else look_again(number) if self.asks_again else ""
        if request and not words:
            changes.append("asked to look again")
        kept = ""
        if plan.again == "failed" and self.threshold is not None and last is not None:
            kept = kept_text(last, self.threshold)
        if kept:
            changes.insert(0, "kept what holds and went on after it")
        return PlannedAttempt(number, settings, request, "; ".join(changes), kept=kept)

    def _identity(self, attempt: PlannedAttempt) -> str:
        """Equal for two attempts that write the same answer."""
        first = {"temperature": self.temperature, "seed": self.seed, "sgrs": self.sgrs, "locore": self.locore}
        settings = {**first, **attempt.settings}
        if settings["temperature"] == 0:
            settings["seed"] = None  # Greedy answers do not depend on it.
        return repr((settings, attempt.request, attempt.kept))


RetryLoop = Generator[PlannedAttempt, Attempt, None]
"""Yields planned attempts; is sent each one judged."""


class _Retrying(Retrying):
    """tenacity's loop, whose counts do not depend on the thread: a generator may be continued in another one."""

    @property
    def statistics(self) -> dict[str, Any]:
        counts: dict[str, Any] = self.__dict__.setdefault("_counts", {})
        return counts


def retry_loop(
    planner: AttemptPlanner,
    *,
    stops: Sequence[Stop],
    first: int = 0,
    wait: Wait | None = None,
    before: Callback | None = None,
    after: Callback | None = None,
    before_sleep: Callback | None = None,
) -> RetryLoop:
    """The attempts to make, one after the other.

    It ends when an answer is good enough (unless the plan keeps the best of all), when one of ``stops`` says so, or
    when nothing is left to change. It does not sleep: the caller does, for `PlannedAttempt.wait` seconds.

    Args:
        planner: says what each attempt changes.
        stops: tenacity's stop objects; any of them ends the loop.
        first: number of the first attempt; above 0 it is a retry already.
        wait: tenacity's wait object.
        before: called before each attempt, as by tenacity.
        after: called after each attempt that another one may follow, as by tenacity.
        before_sleep: called before each retry, as by tenacity.
    """
    following: list[PlannedAttempt] = []
    pause = 0.0

    def remember_pause(seconds: float) -> None:
        nonlocal pause
        pause = seconds

    def is_over(state: RetryCallState) -> bool:
        if any(stop(state) for stop in stops):
            return True
        planned = planner.planned(first + state.attempt_number, _result(state).answer)
        following[:] = [] if planned is None else [planned]
        return planned is None

    def wanted(attempt: Attempt) -> bool:
        return planner.plan.keep == "best" or not attempt.accepted

    retrying = _Retrying(
        sleep=remember_pause,
        stop=is_over,
        wait=cast("Any", wait),  # None is no wait, which tenacity takes but does not declare.
        retry=retry_if_result(wanted),
        before=cast("Any", before),
        after=cast("Any", after),
        before_sleep=before_sleep,
        retry_error_callback=lambda _: None,
        name="saliency-guard",
    )
    start = planner.planned(first, None)
    following += [] if start is None else [start]
    for attempt in retrying:
        judged = yield replace(following.pop(), wait=pause)
        attempt.retry_state.set_result(judged)


def _result(state: RetryCallState) -> Attempt:
    return cast("Attempt", cast("Any", state.outcome).result())


@dataclass(slots=True, eq=False)
class AttemptWriter:
    """Makes planned attempts with a local model, between tokens ready to stop.

    The prompt is prepared once for all attempts, unless a retry changes the question.

    Attributes:
        lvlm: writes.
        messages: the question.
        generation: keyword arguments of `LVLM.generate`, with the seed of the first attempt.
        signals: signals that the answers need.
        deadline: seconds for all attempts; None is no limit.
        timeout: seconds for the whole call; passing it is an error. None is no limit.
        cancel: stops the work once it is set.
    """

    lvlm: LVLM
    messages: Messages
    generation: Mapping[str, Any]
    signals: tuple[str, ...]
    deadline: float | None
    timeout: float | None
    cancel: threading.Event
    _prepared: PreparedPrompt | None = None
    _started: float = field(default_factory=time.monotonic)

    def write(self, planned: PlannedAttempt) -> GroundedAnswer | None:
        """The answer of an attempt; None if the policy's deadline passes before it is finished.

        Raises:
            CancelledError: if ``cancel`` is set.
            DeadlineError: if ``timeout`` passes.
        """
        if planned.wait:
            self.cancel.wait(planned.wait if self.timeout is None else min(planned.wait, self.timeout - self._elapsed))
        self._require_going_on()
        ends = [end for end in (self.deadline, self.timeout) if end is not None]
        left = min(ends) - self._elapsed if ends else None
        if left is not None and left <= 0:
            return None
        options = {**self.generation, **planned.settings, "signals": self.signals, "timeout": left}
        prompt = self.prompt(planned.request)
        try:
            if planned.kept:
                return continued(self.lvlm, prompt, planned.kept, options, self.cancel)
            return self.lvlm.generate(prompt, cancel=self.cancel, **cast("Any", options))
        except DeadlineError:
            self._require_going_on()
            return None

    def prompt(self, request: str = "") -> PreparedPrompt:
        """The prompt, with a sentence added to the question where there is one."""
        if request:
            return self.lvlm.prepare(_with_request(self.messages, request))
        if self._prepared is None:
            self._prepared = self.lvlm.prepare(self.messages)
        return self._prepared

    def _require_going_on(self) -> None:
        if self.cancel.is_set():
            msg = "the run was cancelled"
            raise CancelledError(msg)
        if self.timeout is not None and self._elapsed > self.timeout:
            msg = f"no answer was decided for within timeout={self.timeout:g} s"
            raise DeadlineError(msg)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def weak_words(answer: GroundedAnswer, below: float) -> list[str]:
    """The words of an answer that begin with a token whose grounding is low, in order, each once."""
    words: list[str] = []
    for index, token in enumerate(answer.tokens):
        if token.grounding is not None and not token.grounding >= below:  # NaN is weak, too.
            rest = "".join(following.text for following in answer.tokens[index:]).lstrip()
            word = rest.split(maxsplit=1)[0].strip(".,;:!?\"'()") if rest else ""
            if word and word not in words:
                words.append(word)
    return words[:_MOST_SPANS]


def check_request(words: Sequence[str]) -> str:
    """The sentence that asks to check words."""
    return f"Look at the image again and say only what it shows. Check these words: {', '.join(words)}."


def look_again(number: int) -> str:
    """The sentence that asks to look again; another one in every attempt."""
    again = "again" if number == 1 else f"again (attempt {number + 1})"
    return f"Look at the image {again}, and say only what it shows."


def _with_request(messages: Messages, request: str) -> list[dict[str, Any]]:
    """The messages with a sentence added to the user's last one."""
    changed = [dict(message) for message in messages]
    last = max((index for index, message in enumerate(changed) if message.get("role") == "user"), default=-1)
    content = changed[last].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    changed[last]["content"] = [*parts, {"type": "text", "text": request}]
    return changed
