"""OpenTelemetry's spans of models and query engines: each carries its score or its decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llama_index.llms.saliency_guard import GroundedQueryEngine, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from in_memory_telemetry import Telemetry, attribute, instrumented

Engine = Callable[..., Any]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with instrumented() as kept:
        yield kept


def test_calls_of_the_model_carry_their_score(llm: SaliencyGuardedLVLM, ask: Any, telemetry: Telemetry) -> None:
    with telemetry.tracer_provider.get_tracer("app").start_as_current_span("request"):
        said = llm.chat(ask())
        list(llm.stream_chat(ask()))
    spans = telemetry.spans("chat")
    (request,) = telemetry.spans("request")
    score = said.raw["grounding"]["score"]
    assert attribute(spans, "score") == pytest.approx([score] * 2)
    assert {span.parent.span_id for span in spans} == {request.context.span_id}


def test_runs_of_a_policy_carry_their_decision(says: Any, engine: Engine, telemetry: Telemetry) -> None:
    llm = says("There is a zebra.", "The image shows a dog.")
    guarded = GroundedQueryEngine(engine(llm, "dog"), GuardPolicy(min_grounding=0.5, max_retries=1))
    guarded.query("Describe the image in detail.")
    (guard,) = telemetry.spans("guardrail")
    assert attribute([guard], "decision") == ["accepted"]
    assert attribute([guard], "attempts") == [2]
    assert len(telemetry.spans("score")) == 2
    assert "zebra" not in "".join(span.to_json() for span in telemetry.spans())
