"""Exporters that keep everything in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from saliency_guard.telemetry import instrument, uninstrument


@dataclass
class Telemetry:
    """Providers for `instrument`, and what came out of them."""

    spans_kept: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    metrics_kept: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    logs_kept: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)

    def __post_init__(self) -> None:
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans_kept))
        self.meter_provider = MeterProvider([self.metrics_kept])
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.logs_kept))

    @property
    def providers(self) -> dict[str, Any]:
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    def spans(self, start: str = "") -> list[ReadableSpan]:
        """Finished spans whose name begins so, in the order in which they were started."""
        spans = [span for span in self.spans_kept.get_finished_spans() if span.name.startswith(start)]
        return sorted(spans, key=lambda span: span.start_time or 0)

    def metric(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data = self.metrics_kept.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return [point for metric in metrics for point in metric.data.data_points]

    def shutdown(self) -> None:
        """End the providers: the readers of metrics have threads."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        self.logger_provider.shutdown()


@contextmanager
def kept_telemetry() -> Iterator[Telemetry]:
    """Telemetry for one test, which may instrument with it; nothing is instrumented afterwards."""
    kept = Telemetry()
    try:
        yield kept
    finally:
        uninstrument()
        kept.shutdown()


@contextmanager
def instrumented() -> Iterator[Telemetry]:
    """Telemetry that is switched on."""
    with kept_telemetry() as kept:
        instrument(**kept.providers)
        yield kept


def attribute(spans: Any, name: str) -> list[Any]:
    """One of our attributes of every span."""
    return [dict(span.attributes or {}).get(f"saliency_guard.{name}") for span in spans]
