"""The spans of answers, from the real model to the in-memory exporters."""

from __future__ import annotations

import json

import pytest
from in_memory_telemetry import Telemetry
from PIL import Image

from saliency_guard import LVLM, ConfigError
from saliency_guard.chat.messages import chat
from saliency_guard.telemetry import Evaluation, instrument
from saliency_guard.telemetry.names import EVALUATION_EVENT

ASKED = "Is there a pizza in the image?"


def test_an_answers_span_has_the_conventions_attributes(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    answer = lvlm.generate(chat(picture, ASKED), max_new_tokens=16, temperature=0.5, seed=3, stop="!")
    (span,) = telemetry.spans()
    attributes = dict(span.attributes or {})
    assert span.name == f"chat {lvlm.model_id}"
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "saliency_guard"
    assert attributes["gen_ai.request.model"] == attributes["gen_ai.response.model"] == lvlm.model_id
    assert attributes["gen_ai.request.max_tokens"] == 16
    assert attributes["gen_ai.request.temperature"] == 0.5
    assert attributes["gen_ai.request.seed"] == 3
    assert attributes["gen_ai.request.stop_sequences"] == ("!",)
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens
    assert attributes["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens
    assert attributes["openinference.span.kind"] == "LLM"
    assert attributes["llm.token_count.total"] == answer.usage.total_tokens
    assert json.loads(attributes["llm.invocation_parameters"])["max_new_tokens"] == 16
    assert attributes["saliency_guard.score"] == answer.grounding
    assert attributes["saliency_guard.calibrated"] is True
    (event,) = span.events
    assert event.name == EVALUATION_EVENT == "gen_ai.evaluation.result"
    assert dict(event.attributes or {}) == {
        "gen_ai.evaluation.name": "grounding",
        "gen_ai.evaluation.score.value": answer.grounding,
        "gen_ai.evaluation.score.label": "scored",
        "gen_ai.response.id": attributes["gen_ai.response.id"],
    }
    assert attributes["evaluation.score"] == answer.grounding
    assert attributes["evaluation.annotator_kind"] == "CODE"


def test_an_answer_without_a_score_says_why(picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    answer = LVLM.load().with_calibrator(None).score(chat(picture, ASKED), "No.")
    assert answer.grounding_reason
    (span,) = telemetry.spans("score")
    attributes = dict(span.attributes or {})
    assert attributes["openinference.span.kind"] == "EVALUATOR"
    assert "saliency_guard.score" not in attributes
    assert attributes["saliency_guard.reason"] == answer.grounding_reason
    event = dict(span.events[0].attributes or {})
    assert event["gen_ai.evaluation.score.label"] == "unscored"
    assert event["gen_ai.evaluation.explanation"] == answer.grounding_reason
    (point,) = telemetry.metric("saliency_guard.answers")
    assert point.attributes["gen_ai.evaluation.score.label"] == "unscored"
    assert telemetry.metric("saliency_guard.grounding") == []


def test_metrics(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    answers = [step.answer for step in lvlm.stream(chat(picture, ASKED), max_new_tokens=16)]
    scored = lvlm.score(chat(picture, ASKED), "Yes, there is a pizza in the image.")
    points = telemetry.metric("saliency_guard.grounding")
    assert sorted((point.attributes["gen_ai.operation.name"], point.count, point.sum) for point in points) == [
        ("chat", 1, answers[-1].grounding),
        ("score", 1, scored.grounding),
    ]
    assert 0.5 in points[0].explicit_bounds
    assert {point.count for point in telemetry.metric("gen_ai.client.operation.duration")} == {1}
    usage = telemetry.metric("gen_ai.client.token.usage")
    assert sorted(
        (point.attributes["gen_ai.operation.name"], point.attributes["gen_ai.token.type"], point.sum) for point in usage
    ) == [
        ("chat", "input", answers[-1].usage.prompt_tokens),
        ("chat", "output", answers[-1].usage.completion_tokens),
        ("score", "input", scored.usage.prompt_tokens),
        ("score", "output", scored.usage.completion_tokens),
    ]
    (first,) = telemetry.metric("gen_ai.server.time_to_first_token")
    assert first.count == 1


def test_each_answer_of_a_batch_has_a_span(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    messages = chat(picture, ASKED)
    lvlm.generate_batch([messages, messages], max_new_tokens=4, temperature=1.0, seed=[1, 2])
    lvlm.score_batch([(messages, "No."), (messages, "Yes.")])
    spans = [dict(span.attributes or {}) for span in telemetry.spans()]
    assert [span["gen_ai.operation.name"] for span in spans] == ["chat", "chat", "score", "score"]
    assert [span.get("gen_ai.request.seed") for span in spans] == [1, 2, None, None]
    assert len({span["gen_ai.response.id"] for span in spans}) == 4


async def test_coroutines(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    messages = chat(picture, ASKED)
    await lvlm.agenerate(messages, max_new_tokens=4)
    steps = [step async for step in lvlm.astream(messages, max_new_tokens=4)]
    await lvlm.ascore(messages, "No.")
    await lvlm.ascore_batch([(messages, "No.")])
    operations = [dict(span.attributes or {})["gen_ai.operation.name"] for span in telemetry.spans()]
    assert operations == ["chat", "chat", "score", "score"]
    assert steps[-1].answer is not None
    stream = lvlm.astream(messages, max_new_tokens=64)
    assert (await anext(stream)).token is not None
    await stream.aclose()
    assert dict(telemetry.spans()[-1].attributes or {})["saliency_guard.cancelled"] is True


def test_a_stream_that_is_left_says_so(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    for step in lvlm.stream(chat(picture, ASKED), max_new_tokens=16):
        assert step.token is not None
        break
    (span,) = telemetry.spans()
    assert dict(span.attributes or {})["saliency_guard.cancelled"] is True
    for step in lvlm.stream(chat(picture, ASKED), max_new_tokens=4):
        if step.answer is not None:
            break
    finished = dict(telemetry.spans()[-1].attributes or {})
    assert "saliency_guard.cancelled" not in finished
    assert "gen_ai.response.id" in finished


def test_no_contents_unless_they_are_asked_for(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    question = "Is there a zebra in the image?"
    instrument(**telemetry.providers)
    answer = lvlm.generate(chat(picture, question), max_new_tokens=16)
    with pytest.raises(ConfigError):
        lvlm.generate(chat(picture, question), max_new_tokens=16, temperature=-1.0)
    told = "".join(span.to_json() for span in telemetry.spans())
    assert "zebra" not in told
    assert answer.text not in told
    telemetry.spans_kept.clear()
    instrument(**telemetry.providers, contents=True)
    lvlm.generate(lvlm.prepare(chat(picture, question)), max_new_tokens=16)
    attributes = dict(telemetry.spans()[-1].attributes or {})
    recorded = {"role": "user", "parts": [{"type": "image"}, {"type": "text", "content": question}]}
    assert json.loads(attributes["gen_ai.input.messages"]) == [recorded]
    assert attributes["output.value"] == answer.text
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == answer.text


def test_errors_have_their_type_and_end_the_span(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    with pytest.raises(ConfigError):
        lvlm.stream(chat(picture, ASKED), max_new_tokens=0)
    (span,) = telemetry.spans()
    assert dict(span.attributes or {})["error.type"] == "ConfigError"
    assert not span.status.is_ok
    (point,) = telemetry.metric("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "ConfigError"


def test_events_may_go_to_logs(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers, logger_provider=telemetry.logger_provider)
    answer = lvlm.score(chat(picture, ASKED), "No.")
    (span,) = telemetry.spans()
    assert span.events == ()
    (kept,) = telemetry.logs_kept.get_finished_logs()
    record = kept.log_record
    assert record.event_name == EVALUATION_EVENT
    assert record.attributes["gen_ai.evaluation.score.value"] == answer.grounding
    assert record.span_id == span.context.span_id


def test_the_span_of_a_framework_carries_the_score(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    tracer = telemetry.tracer_provider.get_tracer("framework")
    kinds = (
        {"openinference.span.kind": "LLM"},
        {"gen_ai.operation.name": "chat"},
        {"openinference.span.kind": "CHAIN"},
    )
    for kind in kinds:
        with tracer.start_as_current_span("outer", attributes=kind):
            answer = lvlm.score(chat(picture, ASKED), "No.")
    scores = [dict(span.attributes or {}).get("saliency_guard.score") for span in telemetry.spans("outer")]
    assert scores == [answer.grounding, answer.grounding, None]
    inner, outer = telemetry.spans("score")[0], telemetry.spans("outer")[0]
    assert inner.parent.span_id == outer.context.span_id


def test_evaluations_are_told_when_their_span_has_ended(
    lvlm: LVLM, picture: Image.Image, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[Evaluation, int]] = []
    instrument(
        **telemetry.providers, on_evaluation=lambda evaluation: told.append((evaluation, len(telemetry.spans())))
    )
    answer = lvlm.score(chat(picture, ASKED), "No.")
    ((evaluation, ended),) = told
    (span,) = telemetry.spans()
    assert ended == 1
    assert (evaluation.name, evaluation.score, evaluation.label) == ("grounding", answer.grounding, "scored")
    assert evaluation.trace_id == f"{span.context.trace_id:032x}"
    assert evaluation.span_id == f"{span.context.span_id:016x}"
    instrument(**telemetry.providers, on_evaluation=lambda _: 1 // 0)
    assert lvlm.score(chat(picture, ASKED), "No.") == answer
    assert "on_evaluation failed" in caplog.text
