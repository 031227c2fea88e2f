"""Spans, events and metrics of a recorder, without a model."""

from __future__ import annotations

from in_memory_telemetry import Telemetry

from saliency_guard.telemetry import names
from saliency_guard.telemetry.evaluation import Evaluation
from saliency_guard.telemetry.recorder import Recorder, ids, known, response_id


def test_what_is_not_known_is_no_attribute() -> None:
    assert known({"a": None, "b": 0, "c": False, "d": ""}) == {"b": 0, "c": False, "d": ""}


def test_an_evaluation_is_on_its_span(telemetry: Telemetry) -> None:
    recorder = Recorder(**telemetry.providers)
    span = recorder.start("work", {"kept": 1, "left out": None})
    evaluation = Evaluation("grounding", None, "unscored", "no claim", "m", *ids(span))
    recorder.evaluate(span, evaluation)
    span.end()
    (kept,) = telemetry.spans()
    (event,) = kept.events
    assert dict(event.attributes or {}) == {
        names.EVALUATION_NAME: "grounding",
        names.EVALUATION_LABEL: "unscored",
        names.EVALUATION_EXPLANATION: "no claim",
        names.RESPONSE_ID: response_id(span),
    }
    attributes = dict(kept.attributes or {})
    assert attributes["kept"] == 1
    assert "left out" not in attributes
    assert attributes["evaluation.label"] == "unscored"


def test_the_text_of_an_error_is_a_content(telemetry: Telemetry) -> None:
    for contents, told in ((False, "ValueError"), (True, "a secret")):
        recorder = Recorder(**telemetry.providers, contents=contents)
        span = recorder.start("work", {})
        recorder.fail(span, ValueError("a secret"))
        span.end()
        assert telemetry.spans()[-1].status.description == told


def test_metrics(telemetry: Telemetry) -> None:
    recorder = Recorder(**telemetry.providers)
    recorder.measure(names.GROUNDING, 0.5, {"model": "m", "none": None})
    recorder.count(names.DECISIONS, {names.DECISION: "accepted"})
    recorder.count(names.DECISIONS, {names.DECISION: "accepted"})
    (grounding,) = telemetry.metric(names.GROUNDING)
    assert (grounding.count, grounding.sum, dict(grounding.attributes)) == (1, 0.5, {"model": "m"})
    (decided,) = telemetry.metric(names.DECISIONS)
    assert decided.value == 2
