"""The span of a policy's run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Span

from saliency_guard.guard.outcome import GuardOutcome, LowGroundingError
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.telemetry import names
from saliency_guard.telemetry.answers import CANCELS, IN_GUARD, carry
from saliency_guard.telemetry.evaluation import decision_of
from saliency_guard.telemetry.recorder import Recorder, ids, known


@dataclass(slots=True)
class GuardCall:
    """A run of a policy; see `ObservedCall`.

    Attributes:
        recorder: where its span goes.
        policy: the policy.
    """

    recorder: Recorder
    policy: GuardPolicy
    _span: Span = field(init=False)
    _parent: Span = field(init=False)
    _outcome: GuardOutcome | None = None

    def __post_init__(self) -> None:
        self._parent = trace.get_current_span()
        self._span = self.recorder.start(
            "guardrail saliency_guard",
            {
                names.SPAN_KIND: "GUARDRAIL",
                names.PROVIDER_NAME: names.PROVIDER,
                names.ON_LOW: self.policy.on_low,
                names.MAX_RETRIES: self.policy.max_retries,
                names.THRESHOLD: self.policy.min_grounding,
            },
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Its span is current: answers that are written now are attempts of it."""
        in_guard = IN_GUARD.set(True)
        token = context.attach(trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            context.detach(token)
            IN_GUARD.reset(in_guard)

    def saw(self, item: Any) -> None:
        """An attempt, or the outcome."""
        if isinstance(item, GuardOutcome):
            self._outcome = item

    def finished(self, result: Any) -> None:
        """It decided; or there was nothing to decide on, such as a tool call."""
        outcome = result if isinstance(result, GuardOutcome) else self._outcome
        if outcome is None:
            self._span.end()
        else:
            self._decided(outcome)

    def failed(self, error: BaseException) -> None:
        """It let no answer through, or failed."""
        if isinstance(error, LowGroundingError):
            self._decided(error)
            return
        if isinstance(error, CANCELS):
            self.left()
            return
        self.recorder.fail(self._span, error)
        self._span.end()

    def left(self) -> None:
        """Nobody wants the rest; a run may be left with its outcome."""
        if self._outcome is not None:
            self._decided(self._outcome)
            return
        self._span.set_attribute(names.CANCELLED, value=True)
        self._span.end()

    def _decided(self, outcome: GuardOutcome | LowGroundingError) -> None:
        evaluation = decision_of(outcome, *ids(self._span))
        verdict = {
            names.DECISION: evaluation.label,
            names.SCORE: evaluation.score,
            names.REASON: evaluation.explanation,
        }
        text = outcome.text if isinstance(outcome, GuardOutcome) and self.recorder.contents else None
        self._span.set_attributes(
            known(
                {
                    **verdict,
                    names.THRESHOLD: outcome.threshold,
                    names.ATTEMPTS: len(outcome.attempts),
                    names.OUTPUT_VALUE: text,
                }
            )
        )
        for number, attempt in enumerate(outcome.attempts):
            event = {
                "number": number,
                "verdict": attempt.verdict,
                "score": attempt.score,
                "reason": attempt.problem,
                "change": attempt.change or None,
            }
            self._span.add_event(
                names.ATTEMPT_EVENT,
                known({f"{names.ATTEMPT_EVENT}.{name}": value for name, value in event.items()}),
            )
        self.recorder.evaluate(self._span, evaluation)
        carry(self._parent, verdict)
        self.recorder.count(names.DECISIONS, {names.DECISION: evaluation.label})
        self._span.end()
        self.recorder.report(evaluation)
