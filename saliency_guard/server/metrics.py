"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from saliency_guard.adapters.run import Finished
from saliency_guard.batching.scheduler import BatchingStatistics
from saliency_guard.guard.outcome import Attempt, GuardOutcome, LowGroundingError
from saliency_guard.server.queue import RequestQueue
from saliency_guard.server.record import RequestRecord

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """The metrics of one server.

    Args:
        queue: its requests.
    """

    def __init__(self, queue: RequestQueue) -> None:
        self.registry = CollectorRegistry()
        self._batching: Collector | None = None
        running = self._gauge("requests_running", "Requests that the model is answering.")
        running.set_function(lambda: queue.running)
        waiting = self._gauge("requests_waiting", "Requests that wait for the model.")
        waiting.set_function(lambda: queue.waiting)
        self._requests = self._counter("requests", "Finished requests.", "route", "status")
        self._seconds = self._histogram("request_seconds", "Seconds of a request, waiting included.", _SECONDS, "route")
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From a streamed request to its first token.", _SECONDS
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts, pictures included.")
        self._completion_tokens = self._counter("completion_tokens", "Tokens written, also of refused attempts.")
        self._grounding = self._histogram("grounding", "Calibrated grounding of answers.", _TENTHS)
        self._answers = self._counter("answers", "Answers, by what a policy decided on them.", "decision")
        self._refused = self._counter("refused", "Answers that a policy refused, retried ones included.")
        self._unscored = self._counter("unscored", "Answers without a grounding.")

    def batching(self, statistics: Callable[[], BatchingStatistics]) -> None:
        """Show how answers are written side by side.

        Args:
            statistics: of the model; those of a model before it are shown no more.
        """
        if self._batching is not None:
            self.registry.unregister(self._batching)
        self._batching = _Batching(statistics)
        self.registry.register(self._batching)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"saliency_guard_{name}", what, registry=self.registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"saliency_guard_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"saliency_guard_{name}", what, labels, buckets=buckets, registry=self.registry)

    def request(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        self._requests.labels(record.route, str(record.status)).inc()
        self._seconds.labels(record.route).observe(record.seconds)
        if record.first_token_seconds is not None:
            self._first_token.observe(record.first_token_seconds)
        self._prompt_tokens.inc(record.prompt_tokens)
        self._completion_tokens.inc(record.completion_tokens)

    def answer(self, end: Finished) -> None:
        """Count an answer that is given out."""
        if end.outcome is None:
            self._count(end.answer.grounding if end.answer is not None else None, "none")
        else:
            self.outcome(end.outcome)

    def outcome(self, outcome: GuardOutcome) -> None:
        """Count an answer that a policy decided on."""
        self._count(outcome.score, outcome.decision, outcome.attempts)

    def raised(self, error: LowGroundingError) -> None:
        """Count an answer that a policy did not give out."""
        self._count(error.score, "raised", error.attempts)

    def _count(self, grounding: float | None, decision: str, attempts: Sequence[Attempt] = ()) -> None:
        self._answers.labels(decision).inc()
        self._refused.inc(sum(attempt.refused is not None for attempt in attempts))
        if grounding is None:
            self._unscored.inc()
        else:
            self._grounding.observe(grounding)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)


class _Batching(Collector):
    """The counters of the model itself, read on request."""

    def __init__(self, statistics: Callable[[], BatchingStatistics]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """All of it, as of one moment."""
        now = self._statistics()
        name = "saliency_guard_batch"
        yield CounterMetricFamily(f"{name}_rounds", "Rounds in which tokens were written.", now.rounds)
        yield CounterMetricFamily(f"{name}_rows", "Answers that took part in rounds, added up.", now.rows)
        yield GaugeMetricFamily(f"{name}_largest", "The most answers in one round.", now.largest)
        yield GaugeMetricFamily(f"{name}_active", "Calls that are being answered, or wait for that.", now.active)
        yield GaugeMetricFamily(f"{name}_waiting", "Those of them whose prompt is not prepared yet.", now.waiting)
