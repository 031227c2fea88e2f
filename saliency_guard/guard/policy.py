"""Accept, retry, flag, fall back: what to do with an answer by how well it is grounded."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, model_validator

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.calibrator import Calibrator, picture_digest
from saliency_guard.calibration.guarantee import Metric, NoPromise, Promise, choose_threshold, units
from saliency_guard.calibration.records import Records
from saliency_guard.chat.template import Messages
from saliency_guard.errors import ConfigError, InputError
from saliency_guard.guard.attempts import Run
from saliency_guard.guard.outcome import Attempt, Decision, GuardOutcome, LowGroundingError
from saliency_guard.guard.retry import RetryPlan
from saliency_guard.guard.rules import SignalRule
from saliency_guard.lvlm import LVLM
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.settings import Probability, Settings
from saliency_guard.storage import load_model, save_model

Fallback = Callable[[Messages | None, tuple["Attempt", ...]], "GroundedAnswer | str"]

_RETRIES = 2


class GuardPolicy(Settings):
    """What to do with an answer by how well it is grounded.

    Attributes:
        min_grounding: answers whose calibrated `GroundedAnswer.grounding` is below this are refused; None looks at
            ``rules`` alone.
        rules: on raw signals; an answer that breaks one is refused.
        on_low: what to do when no answer is good enough: ``"retry"`` (then fall back where there is a ``fallback``,
            else flag), ``"flag"``, ``"fallback"`` or ``"raise"`` `LowGroundingError`.
        max_retries: answers drawn after the first before that; None is 2 for ``"retry"`` and 0 otherwise.
        retry: what a retry changes, and which of the answers is kept.
        fallback: called with the messages (None from `check`) and all attempts; gives an answer or a plain text.
        deadline: seconds for all attempts together; None is no limit.
        promise: where ``min_grounding`` comes from, if `calibrated` chose it.
        calibrator: judges the answers; None leaves that to the `LVLM`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    min_grounding: Probability | None = None
    rules: tuple[SignalRule, ...] = ()
    on_low: Literal["retry", "flag", "fallback", "raise"] = "flag"
    max_retries: Annotated[int, Field(ge=0)] | None = None
    retry: RetryPlan = RetryPlan()
    fallback: Fallback | None = Field(default=None, exclude=True)
    deadline: Annotated[float, Field(gt=0.0)] | None = None
    promise: Promise | None = None
    calibrator: Calibrator | None = None

    @model_validator(mode="after")
    def _check(self) -> GuardPolicy:
        if self.min_grounding is None and not self.rules:
            msg = "a policy needs min_grounding or at least one rule"
            raise ValueError(msg)
        promise = self.promise
        untested = [name for name, used in self._untested.items() if used]
        if promise is not None and untested:
            msg = f"the promise was not made for a policy with {', '.join(untested)}: leave them out, or the promise"
            raise ValueError(msg)
        if promise is not None and (self.retries, self.retry.keep) != (promise.max_retries, promise.keep):
            msg = (
                f"the threshold was made for max_retries={promise.max_retries} keeping the {promise.keep}, and says "
                f"nothing about max_retries={self.retries} keeping the {self.retry.keep}: use GuardPolicy.calibrated"
            )
            raise ValueError(msg)
        if promise is not None and self.min_grounding != promise.threshold:
            msg = f"the promise is for min_grounding={promise.threshold}, not {self.min_grounding}"
            raise ValueError(msg)
        return self

    @property
    def _untested(self) -> dict[str, bool]:
        """What no promise covers: records are not made that way."""
        return {
            "rules": bool(self.rules),
            "deadline": self.deadline is not None,
            "retry.alpha_step": self.retry.alpha_step > 0,
            "retry.beta_step": self.retry.beta_step > 0,
            "retry.name_spans": self.retry.name_spans,
        }

    @property
    def retries(self) -> int:
        """Answers drawn after the first."""
        return self.max_retries if self.max_retries is not None else (_RETRIES if self.on_low == "retry" else 0)

    @property
    def signals(self) -> tuple[str, ...]:
        """Signals that the rules look at."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.wanted))

    @classmethod
    def calibrated(
        cls,
        records: Records,
        *,
        risk: float = 0.05,
        confidence: float = 0.95,
        metric: Metric = "accepted",
        calibrator: Calibrator | None = None,
        **policy: Any,
    ) -> GuardPolicy | NoPromise:
        """A policy whose threshold keeps a promise, made for the policy as a whole (Learn then Test).

        Args:
            records: labelled answers, made the way the policy will make them, of pictures that the calibrator was not
                fitted on; for a policy with n retries every question has n + 1 draws. One question a picture counts.
            risk: at most this part is to be ungrounded.
            confidence: how sure that is to be, over the draw of the records.
            metric: part of the ``"accepted"`` answers, or of ``"all"`` questions.
            calibrator: judges the answers; None takes the grounding that the records' answers have.
            **policy: the policy's other settings (`on_low`, `max_retries`, `retry`, `fallback`, `deadline`).

        Returns:
            The policy, or `NoPromise` where no threshold keeps the promise.

        Raises:
            ConfigError: if a setting is out of range, or rules are part of the policy: they are not tested.
            InputError: if the records have too few draws, no grounding, or pictures the calibrator was fitted on.
            CalibrationMismatchError: if the calibrator is another model's.
            MissingExtraError: if MAPIE is not installed.
        """
        for name, value in (("risk", risk), ("confidence", confidence)):
            if not 0.0 < value < 1.0:
                msg = f"{name}={value} is not between 0 and 1"
                raise ConfigError(msg)
        if metric not in ("accepted", "all"):
            msg = f"metric={metric!r}: choose accepted or all"
            raise ConfigError(msg)
        if {"min_grounding", "promise"} & set(policy):
            msg = "the threshold is chosen here: leave out min_grounding and promise"
            raise ConfigError(msg)
        shape = cls(min_grounding=0.0, **policy)
        untested = [name for name, used in shape._untested.items() if used]
        if untested:
            msg = f"a promise cannot be made for a policy with {', '.join(untested)}: records are not made that way"
            raise ConfigError(msg)
        drawn_at = (records.generation or {}).get("retry_temperature", shape.retry.temperature)
        if shape.retries and drawn_at != shape.retry.temperature:
            msg = f"the records' retries were drawn at temperature {drawn_at}, not at {shape.retry.temperature}"
            raise ConfigError(msg)
        scores = _scores(records, calibrator)
        drawn, grounded, _ = units(records, scores, shape.retries + 1)
        chosen = choose_threshold(
            drawn, grounded, risk=risk, confidence=confidence, metric=metric, keep=shape.retry.keep
        )
        if isinstance(chosen, NoPromise):
            return chosen
        promise = chosen.model_copy(update={"generation": records.generation})
        return cls(min_grounding=promise.threshold, promise=promise, calibrator=calibrator, **policy)

    def check(self, answer: GroundedAnswer, *, messages: Messages | None = None) -> GuardOutcome:
        """Decide on one answer that is there, such as one from `LVLM.score`; nothing is drawn anew.

        The threshold is the policy's, its promise is not: that is about answers the model writes.

        Args:
            answer: the answer.
            messages: what it answers, for the fallback.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if it is not good enough.
            ConfigError: if it has no calibrated grounding and ``min_grounding`` asks for one; if the threshold was
                chosen for a policy with retries.
        """
        if self.promise is not None and self.promise.max_retries:
            msg = (
                f"the threshold was made for {self.promise.max_retries} retries and says nothing about a single "
                "answer: use GuardPolicy.calibrated(..., max_retries=0)"
            )
            raise ConfigError(msg)
        return self.decided((self._attempt(answer, "", judged=answer.calibrated),), messages)

    def run(
        self, lvlm: LVLM, messages: Messages, *, cancel: threading.Event | None = None, **generation: Any
    ) -> GuardOutcome:
        """Answer messages under the policy.

        Args:
            lvlm: answers, and judges its answers.
            messages: as for `LVLM.generate`.
            cancel: stops the run between two tokens once it is set.
            **generation: as for `LVLM.generate`; the seed is drawn where there is none.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if no answer is good enough.
            DeadlineError: if the deadline passes before the first answer is finished.
            CancelledError: if ``cancel`` was set.
            ConfigError: if ``min_grounding`` asks for a calibrated grounding and there is no calibrator.
        """
        *_, outcome = self.steps(lvlm, messages, cancel=cancel, **generation)
        return cast("GuardOutcome", outcome)

    def steps(
        self, lvlm: LVLM, messages: Messages, *, cancel: threading.Event | None = None, **generation: Any
    ) -> Iterator[Attempt | GuardOutcome]:
        """`run`, attempt by attempt: each as it is made, and the outcome last; arguments and errors as there."""
        judge = lvlm if self.calibrator is None else lvlm.with_calibrator(self.calibrator)
        promise = self.promise
        if promise is not None and promise.generation is not None:
            promised = {name: value for name, value in promise.generation.items() if name != "retry_temperature"}
            generation = {**promised, **generation}
            if any(generation[name] != value for name, value in promised.items()):
                promise = None  # Written another way: nothing is promised of that.
        if self.min_grounding is not None:
            self._require_judge(judge, generation.get("saliency", SaliencyConfig()))
        run = Run(
            lvlm=judge,
            messages=messages,
            generation=generation,
            plan=self.retry,
            retries=self.retries,
            signals=tuple(dict.fromkeys([*generation.get("signals", ()), *self.signals])),
            deadline=self.deadline,
            cancel=cancel or threading.Event(),
            considered=partial(self._attempt, judged=True),
        )
        yield from run.attempts()
        yield self.decided(tuple(run.made), messages, promise=promise)

    def considered(self, answer: GroundedAnswer, change: str = "") -> Attempt:
        """An answer as an attempt, refused or not.

        Args:
            answer: scored by a model that the policy's calibrator, or its own, fits.
            change: in words, what is other than in the first attempt.

        Raises:
            ConfigError: if it has no calibrated grounding and ``min_grounding`` asks for one.
        """
        return self._attempt(answer, change, judged=answer.calibrated)

    def decided(
        self,
        attempts: tuple[Attempt, ...],
        messages: Messages | None = None,
        *,
        promise: Promise | None = None,
        best: int | None = None,
    ) -> GuardOutcome:
        """What to do with attempts.

        Args:
            attempts: in order.
            messages: what they answer, for the fallback.
            promise: that holds for attempts made as these.
            best: number of the one to give out where none is good enough; None is the one with the highest score.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if none is good enough.
            ConfigError: if a fallback is wanted and there is none, or it gives no answer.
        """
        good = [attempt for attempt in attempts if attempt.refused is None]
        chosen = max(good or attempts, key=_rank) if self.retry.keep == "best" or not good else good[0]
        if not good and best is not None:
            chosen = attempts[best]
        decision: Decision = "accepted" if good else "flagged"
        answer: GroundedAnswer | None = chosen.answer
        text = chosen.answer.text
        if not good and self.on_low == "raise":
            raise LowGroundingError(chosen.answer, chosen.score, self.min_grounding, attempts)
        if not good and self.on_low == "fallback" and self.fallback is None:
            raise ConfigError(_NO_FALLBACK)
        if not good and self.on_low in ("retry", "fallback") and self.fallback is not None:
            given = self.fallback(messages, attempts)
            if not isinstance(given, (GroundedAnswer, str)):
                msg = f"the fallback gave {given!r}: it is to give a text or a GroundedAnswer"
                raise ConfigError(msg)
            decision = "fallback"
            answer = given if isinstance(given, GroundedAnswer) else None
            text = given.text if isinstance(given, GroundedAnswer) else given
        return GuardOutcome(
            answer=answer,
            text=text,
            decision=decision,
            attempts=attempts,
            threshold=self.min_grounding,
            calibrated=self.min_grounding is not None and all(attempt.answer.calibrated for attempt in attempts),
            promise=promise,
        )

    async def arun(self, lvlm: LVLM, messages: Messages, **generation: Any) -> GuardOutcome:
        """`run` in a thread; cancelling the task stops it between two tokens."""
        cancel = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self.run, lvlm, messages, cancel=cancel, **generation))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancel.set()
            await asyncio.wait([work])
            work.exception()  # That it was cancelled is said by what is raised here.
            raise

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all; a fallback is code and is not written."""
        save_model(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, fallback: Fallback | None = None) -> GuardPolicy:
        """Read what `save` wrote.

        Raises:
            InputError: if the file cannot be read or is no policy.
        """
        policy = load_model(cls, path, "policy")
        return policy.model_copy(update={"fallback": fallback})

    @staticmethod
    def _require_judge(judge: LVLM, saliency: SaliencyConfig | None) -> None:
        if judge.calibrator is None:
            raise ConfigError(_NO_CALIBRATOR)
        fitted = judge.calibrator.fingerprint.saliency
        if saliency != fitted:
            msg = f"min_grounding needs answers looked at as the calibrator was fitted for: saliency={fitted!r}"
            raise ConfigError(msg)

    def _attempt(self, answer: GroundedAnswer, change: str, *, judged: bool) -> Attempt:
        refused = self._refusal(answer, judged=judged)
        return Attempt(answer=answer, score=answer.grounding, refused=refused, change=change)

    def _refusal(self, answer: GroundedAnswer, *, judged: bool) -> str | None:
        if self.min_grounding is not None:
            if answer.grounding is None and not judged:
                raise ConfigError(_NO_CALIBRATOR)
            if answer.grounding is None:
                return "nothing in the answer counts, so nothing says that it is grounded"
            if not 0.0 <= answer.grounding <= 1.0:  # NaN is below nothing.
                return f"grounding {answer.grounding} is no probability, so nothing says that it is grounded"
            if answer.grounding < self.min_grounding:
                return f"grounding {answer.grounding:.3f} is below {self.min_grounding:.3f}"
        return next((reason for rule in self.rules if (reason := rule.refusal(answer)) is not None), None)


_NO_CALIBRATOR = (
    "min_grounding needs a calibrated grounding, and there is no calibrator: fit one with `saliency-guard calibrate`, "
    'or use rules on raw signals (rules=(SignalRule("saliency_ratio", below=0.6),))'
)
_NO_FALLBACK = 'on_low="fallback" needs fallback=..., something to call with the messages and the attempts'


def _rank(attempt: Attempt) -> float:
    """What is no probability comes last."""
    return attempt.score if attempt.score is not None and 0.0 <= attempt.score <= 1.0 else -1.0


def _scores(records: Records, calibrator: Calibrator | None) -> Sequence[float | None]:
    if calibrator is None:
        if any(record.answer.grounding is None and not record.answer.calibrated for record in records):
            msg = "the records' answers have no calibrated grounding: pass calibrator=..."
            raise InputError(msg)
        return [record.answer.grounding for record in records]
    calibrator.require(records.fingerprint)
    fitted = set(calibrator.fitted_on.digests)
    seen = next((record.picture for record in records if picture_digest(record.picture) in fitted), None)
    if seen is not None:
        msg = (
            f"the calibrator was fitted on picture {seen!r}: what it says of it is too good to make a promise from; "
            "use records of other pictures"
        )
        raise InputError(msg)
    return [calibrator.judge_record(record).answer for record in records]
