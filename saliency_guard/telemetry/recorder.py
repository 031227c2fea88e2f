"""Makes spans, events and metrics of calls. Imported only where OpenTelemetry is installed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.metrics import MeterProvider, get_meter_provider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from saliency_guard import __version__
from saliency_guard.telemetry import names
from saliency_guard.telemetry.evaluation import Evaluation

_SCOPE = "saliency_guard"
_LOG = logging.getLogger(__name__)
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
_PROBABILITIES = tuple(round(0.05 * step, 2) for step in range(1, 20))

OnEvaluation = Callable[[Evaluation], object]
"""Called with every evaluation, after its span has ended; it runs where the answer was made, so it has to be quick."""


@dataclass(slots=True)
class Recorder:
    """Where spans, events and metrics go.

    Attributes:
        tracer_provider: of the spans; None is the global one.
        meter_provider: of the metrics; None is the global one.
        logger_provider: of the events, as log records; None puts them on the spans.
        contents: whether questions and answers are recorded, those of refused attempts included.
        on_evaluation: called with every evaluation.
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    contents: bool = False
    on_evaluation: OnEvaluation | None = None
    _metrics: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        meter = (self.meter_provider or get_meter_provider()).get_meter(_SCOPE, __version__)

        def histogram(name: str, unit: str, description: str, bounds: Sequence[float]) -> Any:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)

        self._metrics = {
            names.DURATION: histogram(names.DURATION, "s", "Time that a call took", _SECONDS),
            names.TIME_TO_FIRST_TOKEN: histogram(
                names.TIME_TO_FIRST_TOKEN, "s", "Time to a stream's first token", _SECONDS
            ),
            names.TOKEN_USAGE: histogram(names.TOKEN_USAGE, "{token}", "Tokens of prompts and answers", _TOKENS),
            names.GROUNDING: histogram(names.GROUNDING, "1", "Calibrated grounding of answers", _PROBABILITIES),
            names.ANSWERS: meter.create_counter(names.ANSWERS, "{answer}", "Answers, scored and unscored"),
            names.DECISIONS: meter.create_counter(names.DECISIONS, "{run}", "What policies decided"),
        }

    def start(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """A new span, a child of the current one; what runs in this process is internal."""
        tracer = trace.get_tracer(_SCOPE, __version__, self.tracer_provider)
        return tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=known(attributes))

    def measure(self, metric: str, value: float, attributes: Mapping[str, Any]) -> None:
        """One value of a histogram."""
        self._metrics[metric].record(value, known(attributes))

    def count(self, metric: str, attributes: Mapping[str, Any]) -> None:
        """One more of a counter."""
        self._metrics[metric].add(1, known(attributes))

    def evaluate(self, span: Span, evaluation: Evaluation) -> None:
        """Write an evaluation to its span, and an event of it."""
        event = known(
            {
                names.EVALUATION_NAME: evaluation.name,
                names.EVALUATION_SCORE: evaluation.score,
                names.EVALUATION_LABEL: evaluation.label,
                names.EVALUATION_EXPLANATION: evaluation.explanation,
                names.RESPONSE_ID: response_id(span),
            }
        )
        if self.logger_provider is None:
            span.add_event(names.EVALUATION_EVENT, event)
        else:
            record = LogRecord(
                timestamp=time.time_ns(),
                context=trace.set_span_in_context(span),
                severity_number=SeverityNumber.INFO,
                event_name=names.EVALUATION_EVENT,
                attributes=event,
            )
            self.logger_provider.get_logger(_SCOPE, __version__).emit(record)
        openinference = {
            attribute: getattr(evaluation, field_name)
            for field_name, attribute in names.OPENINFERENCE_EVALUATION.items()
        }
        span.set_attributes(known({**openinference, names.ANNOTATOR_KIND: "CODE"}))

    def report(self, evaluation: Evaluation) -> None:
        """Call the user's own function; an error of it is logged and is no error of the answer."""
        if self.on_evaluation is None:
            return
        try:
            self.on_evaluation(evaluation)
        except Exception:  # noqa: BLE001 - whatever the user's function raises
            _LOG.exception("on_evaluation failed for span %s", evaluation.span_id)

    def fail(self, span: Span, error: BaseException) -> None:
        """Say that a call failed; the error's text may quote what was asked, and is a content."""
        span.set_attribute(names.ERROR_TYPE, type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, str(error) if self.contents else type(error).__name__))


def known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes without those that are not known."""
    return {name: value for name, value in attributes.items() if value is not None}


def ids(span: Span) -> tuple[str, str]:
    """A span's trace and its own id, as hexadecimal digits."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def response_id(span: Span) -> str:
    """What an answer is called."""
    return f"answer-{ids(span)[1]}"


def as_json(value: Any) -> str:
    """A value of plain Python as JSON."""
    return json.dumps(value, ensure_ascii=False)
