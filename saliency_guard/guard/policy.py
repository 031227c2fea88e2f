"""Accept, retry, flag, fall back: what happens with an answer, depending on how well it is grounded."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Generator, Iterator
from contextlib import aclosing
from typing import Any, cast

from tenacity import stop_after_attempt, stop_before_delay

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.guarantee import (
    Metric,
    NoGuarantee,
    RiskGuarantee,
    choose_threshold,
    record_scores,
    units,
)
from saliency_guard.calibration.records import Records
from saliency_guard.chat.template import Messages
from saliency_guard.decoding.options import generation_plan
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.errors import ConfigError, DeadlineError
from saliency_guard.guard import decision, structured
from saliency_guard.guard.continuation import require_continuing
from saliency_guard.guard.fields import JudgedText
from saliency_guard.guard.outcome import Attempt, GuardOutcome
from saliency_guard.guard.retry import AttemptPlanner, AttemptWriter, PlannedAttempt, RetryLoop, Stop, retry_loop
from saliency_guard.guard.settings import PolicySettings
from saliency_guard.lvlm import LVLM
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.settings import require_between
from saliency_guard.storage import load_model, save_model
from saliency_guard.worker import in_thread

PlannedAttempts = Generator[PlannedAttempt, GroundedAnswer | Attempt | None, GuardOutcome | None]
"""Yields planned attempts; send in each attempt's scored answer, or an attempt that is judged already, such as
`EMPTY_ANSWER`. None, where there is no answer (a tool call, say), ends it without an outcome."""


class GuardPolicy(PolicySettings):
    """What happens with an answer, depending on how well it is grounded; settings as in `PolicySettings`."""

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
    ) -> GuardPolicy | NoGuarantee:
        """A policy whose threshold guarantees a risk, tested for the policy as a whole (Learn then Test).

        Args:
            records: labelled answers, written the way the policy will write them, of pictures that the calibrator was
                not fitted on; for a policy with n retries every question has n + 1 draws. One question per picture
                counts.
            risk: the largest share of ungrounded answers.
            confidence: the probability, over the draw of the records, that the guarantee holds.
            metric: whether the share is of the ``"accepted"`` answers, or of ``"all"`` questions.
            calibrator: judges the answers; None takes the grounding that the records' answers have.
            **policy: the policy's other settings (`on_low`, `max_retries`, `retry`, `fallback`, ...).

        Returns:
            The policy, or `NoGuarantee` where the records give none for any threshold.

        Raises:
            ConfigError: if a setting is out of range, or the policy has rules, a deadline or others that no record has.
            InputError: if the records have too few draws, no grounding, or pictures the calibrator was fitted on.
            CalibrationMismatchError: if the calibrator is another model's.
            MissingExtraError: if MAPIE is not installed.
        """
        records = records.usual
        require_between(risk=risk, confidence=confidence)
        if metric not in ("accepted", "all"):
            msg = f"metric={metric!r}: choose accepted or all"
            raise ConfigError(msg)
        if {"min_grounding", "guarantee"} & set(policy):
            msg = "the threshold is chosen here: leave out min_grounding and guarantee"
            raise ConfigError(msg)
        shape = cls(min_grounding=0.0, **policy)
        if shape.untested:
            names = ", ".join(shape.untested)
            msg = f"a policy with {names} cannot have a guarantee: records are not made that way"
            raise ConfigError(msg)
        drawn_at = (records.generation or {}).get("retry_temperature", shape.retry.temperature)
        if shape.max_retries and drawn_at != shape.retry.temperature:
            msg = f"the records' retries were drawn at temperature {drawn_at}, not at {shape.retry.temperature}"
            raise ConfigError(msg)
        scores, grounded, _ = units(records, record_scores(records, calibrator), shape.max_retries + 1)
        chosen = choose_threshold(
            scores, grounded, risk=risk, confidence=confidence, metric=metric, keep=shape.retry.keep
        )
        if isinstance(chosen, NoGuarantee):
            return chosen
        guarantee = chosen.model_copy(update={"generation": records.generation})
        return cls(min_grounding=guarantee.threshold, guarantee=guarantee, calibrator=calibrator, **policy)

    def check(self, answer: GroundedAnswer, *, messages: Messages | None = None) -> GuardOutcome:
        """Decide on an answer that exists already, such as one from `LVLM.score`; there are no retries.

        The threshold applies, the guarantee does not: that is about answers the model writes.

        Args:
            answer: the answer.
            messages: what it answers, for the fallback.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if it is refused; with ``unscored="raise"``, if it has no
                grounding and ``min_grounding`` needs one.
            ConfigError: if the threshold was chosen for a policy with retries, or a rule's signal is missing.
        """
        if self.guarantee is not None and self.guarantee.max_retries:
            msg = (
                f"the threshold was chosen for {self.guarantee.max_retries} retries and says nothing about a single "
                "answer: use GuardPolicy.calibrated(..., max_retries=0)"
            )
            raise ConfigError(msg)
        return self.decide((self.judge(answer),), messages)

    def run(
        self, lvlm: LVLM, messages: Messages, *, cancel: threading.Event | None = None, **generation: Any
    ) -> GuardOutcome:
        """Answer messages under the policy.

        Args:
            lvlm: answers, and judges its answers.
            messages: as for `LVLM.generate`.
            cancel: stops the run between two tokens, or while it waits, once it is set.
            **generation: as for `LVLM.generate`; ``timeout`` is for the whole run.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if every answer is refused; with ``unscored="raise"``, if none
                could be judged.
            DeadlineError: if the deadline passes before the first answer is finished, or the timeout passes.
            CancelledError: if ``cancel`` was set.
            ConfigError: if ``min_grounding`` needs a calibrated grounding and there is no calibrator, or the retry plan
                changes what is not there.
        """
        *_, outcome = self.steps(lvlm, messages, cancel=cancel, **generation)
        return cast("GuardOutcome", outcome)

    def steps(
        self,
        lvlm: LVLM,
        messages: Messages,
        *,
        cancel: threading.Event | None = None,
        fields: structured.ReadFields | None = None,
        **generation: Any,
    ) -> Iterator[Attempt | GuardOutcome]:
        """`run`, attempt by attempt: each as it is made, and the outcome last; arguments and errors as there.

        Args:
            lvlm: as for `run`.
            messages: as for `run`.
            cancel: as for `run`.
            fields: what of an answer is judged, where there may be tool calls in it; None is the answer, and with a
                ``json_schema`` the fields of its object.
            **generation: as for `run`.
        """
        scorer = lvlm if self.calibrator is None else lvlm.with_calibrator(self.calibrator)
        generation, guarantee = self._guaranteed(generation)
        options = generation_plan(generation).options
        self.require_calibrator(scorer, options["saliency"])
        seed = cast("int | None", options["seed"])
        seed = random.randrange(2**31) if seed is None else seed  # noqa: S311 - no secret
        planner = AttemptPlanner(
            self.retry,
            seed,
            options["temperature"],
            options["sgrs"],
            options["locore"],
            names_seed=True,
            threshold=self.min_grounding,
        )
        if self.max_retries:
            planner.require_changes()
            if self.retry.again == "failed":
                require_continuing(scorer, {**options, "tools": fields})
        writer = AttemptWriter(
            lvlm=scorer,
            messages=messages,
            generation={**generation, "seed": seed, "timeout": None},
            signals=tuple(dict.fromkeys([*options["signals"], *self.signals])),
            deadline=self.deadline,
            timeout=options["timeout"],
            cancel=cancel or threading.Event(),
        )
        if fields is None and options["json_schema"] is not None:
            fields = structured.object_fields
        policy = self
        attempts: list[Attempt] = []
        loop = self._loop(planner)
        planned: PlannedAttempt | None = next(loop)
        while planned is not None:
            answer = writer.write(planned)
            if answer is None:  # The deadline passed: earlier attempts are all there is.
                break
            said = fields(answer) if fields is not None else JudgedText(answer.text)
            if said is None:
                yield decision.not_applicable(answer.text, decision.NO_ARGUMENTS, self, answer)
                return
            if said.fields:
                prompt = writer.prompt()
                answer = structured.scored(scorer, prompt, answer, said, options=options, cancel=writer.cancel)
                policy, guarantee = self.model_copy(update=structured.without_repair(self)), None
            attempts.append(structured.says_nothing(self.judge(answer, planned.change), said))
            yield attempts[-1]
            planned = _following(loop, attempts[-1])
        if not attempts:
            msg = f"the deadline of {self.deadline:g} s passed before the first answer was finished"
            raise DeadlineError(msg)
        yield decision.decide(policy, tuple(attempts), messages, guarantee=guarantee)

    def _guaranteed(self, generation: dict[str, Any]) -> tuple[dict[str, Any], RiskGuarantee | None]:
        """Generation options, by default those of the guarantee; and the guarantee, if it covers them."""
        guarantee = self.guarantee
        if guarantee is None or guarantee.generation is None:
            return generation, guarantee
        tested = {name: value for name, value in guarantee.generation.items() if name != "retry_temperature"}
        merged = {**tested, **generation}
        covered = all(merged[name] == value for name, value in tested.items())
        return merged, guarantee if covered else None

    def _loop(self, planner: AttemptPlanner, first: int = 0) -> RetryLoop:
        stops: list[Stop] = [stop_after_attempt(self.max_retries + 1)]
        if self.deadline is not None:
            stops.append(stop_before_delay(self.deadline))
        if self.stop is not None:
            stops.append(self.stop)
        return retry_loop(
            planner,
            stops=stops,
            first=first,
            wait=self.wait,
            before=self.before,
            after=self.after,
            before_sleep=self.before_sleep,
        )

    def planned_attempts(
        self,
        messages: Messages | None = None,
        *,
        temperature: float | None = None,
        seed: int | None = None,
        sgrs: SGRSConfig | None = None,
        locore: LocoREConfig | None = None,
        first: int = 0,
        has_fallback: bool = False,
        asks_again: bool = False,
    ) -> PlannedAttempts:
        """The retry loop for agents and query engines, which ask their own model.

        The outcome has no guarantee: that is tested for attempts that `run` makes.

        Args:
            messages: what is answered, for the policy's own fallback.
            temperature: of the first attempt; None is not known.
            seed: of the first attempt; None draws one.
            sgrs: SGRS of the first attempt; None where it is off, or the model has none.
            locore: LocoRE of the first attempt; None where it is off, or the model has none.
            first: number of the first attempt; above 0 it is a retry already.
            has_fallback: whether there is a fallback model, to be asked when every answer is refused.
            asks_again: whether the model may take no settings at all: then every retry changes its prompt.

        Raises:
            ConfigError: if the retry plan changes SGRS or LocoRE and there is none, changes nothing, or keeps a part of
                an answer.
            LowGroundingError: as `run`, from the generator.
        """
        policy = self
        if has_fallback and policy.on_low == "fallback" and policy.fallback is None:
            policy = policy.model_copy(update={"on_low": "flag"})  # The model is the fallback.
        if self.max_retries and self.retry.again == "failed":
            raise ConfigError(_NO_CONTINUING)
        seed = random.randrange(2**31) if seed is None else seed  # noqa: S311 - no secret
        planner = AttemptPlanner(self.retry, seed, temperature, sgrs, locore, asks_again=asks_again)
        if self.max_retries:
            planner.require_changes()
        return policy._planned_attempts(policy._loop(planner, first), messages, has_fallback=has_fallback)

    def _planned_attempts(self, loop: RetryLoop, messages: Messages | None, *, has_fallback: bool) -> PlannedAttempts:
        attempts: list[Attempt] = []
        planned: PlannedAttempt | None = next(loop)
        while planned is not None:
            result = yield planned
            if result is None:
                return None
            attempts.append(self._judged(result, planned.change))
            planned = _following(loop, attempts[-1])
        if not has_fallback or decision.best_attempt(attempts, self.retry.keep).refused is None:
            return self.decide(tuple(attempts), messages)
        planned = PlannedAttempt(len(attempts), change="the fallback model", is_fallback=True)
        result = yield planned
        if result is None:
            return None
        attempts.append(self._judged(result, planned.change))
        outcome = decision.decide(self, tuple(attempts), messages, chosen=attempts[-1])
        return outcome.model_copy(update={"decision": "fallback"}) if attempts[-1].accepted else outcome

    def _judged(self, result: GroundedAnswer | Attempt, change: str) -> Attempt:
        """A new attempt each time: outcomes tell attempts apart by their answers."""
        if isinstance(result, Attempt):
            return result.model_copy(update={"answer": result.answer.model_copy(), "change": change})
        return self.judge(result, change)

    def judge(self, answer: GroundedAnswer, change: str = "") -> Attempt:
        """An answer as an attempt, accepted or not; see `saliency_guard.guard.decision.judge`."""
        return decision.judge(self, answer, change)

    def decide(self, attempts: tuple[Attempt, ...], messages: Messages | None = None) -> GuardOutcome:
        """What to do with attempts that `judge` made; see `saliency_guard.guard.decision.decide`."""
        return decision.decide(self, attempts, messages)

    async def arun(self, lvlm: LVLM, messages: Messages, **generation: Any) -> GuardOutcome:
        """`run` in a thread of its own; cancelling the task stops it between two rounds of tokens."""
        cancel = threading.Event()

        def outcomes() -> Generator[GuardOutcome, None, None]:
            yield self.run(lvlm, messages, cancel=cancel, **generation)

        async with aclosing(in_thread(outcomes(), cancel)) as decided:
            return await anext(decided)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all; the fallback and tenacity's objects are code and are not written."""
        save_model(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **code: Any) -> GuardPolicy:
        """Read what `save` wrote.

        Args:
            path: of the file.
            **code: settings that are code: ``fallback``, ``stop``, ``wait``, ``before``, ``after``, ``before_sleep``.

        Raises:
            InputError: if the file cannot be read or is no policy.
            ConfigError: if a setting is wrong or none of these.
        """
        policy = load_model(cls, path, "policy")
        unknown = set(code) - {name for name, described in cls.model_fields.items() if described.exclude}
        if unknown:
            msg = f"{min(unknown)!r} is saved with the policy: only code is given to load"
            raise ConfigError(msg)
        return cls(**dict(policy) | code) if code else policy

    def require_calibrator(self, scorer: LVLM, saliency: SaliencyConfig | None = SaliencyConfig()) -> None:
        """Check that a model can judge answers for the policy.

        Args:
            scorer: judges answers.
            saliency: how it scores them.

        Raises:
            ConfigError: if ``min_grounding`` needs a calibrated grounding and the model has no calibrator, or scores
                answers in another way than the calibrator was fitted for.
        """
        if self.min_grounding is None:
            return
        if scorer.calibrator is None:
            raise ConfigError(_NO_CALIBRATOR)
        fitted = scorer.calibrator.fingerprint.saliency
        if saliency != fitted:
            msg = f"min_grounding needs answers scored as the calibrator was fitted: saliency={fitted!r}"
            raise ConfigError(msg)


_NO_CALIBRATOR = (
    "min_grounding needs a calibrated grounding, and there is no calibrator: fit one with `saliency-guard calibrate`, "
    'or use rules on raw signals (rules=(SignalRule("saliency_ratio", below=0.6),))'
)
_NO_CONTINUING = (
    'retry.again="failed" continues an answer of a local model (LVLM), and agents and query engines ask their own: set '
    'again="whole"'
)


def _following(loop: RetryLoop, attempt: Attempt) -> PlannedAttempt | None:
    """The attempt planned after this one; None at the end of the loop."""
    try:
        return loop.send(attempt)
    except StopIteration:
        return None
