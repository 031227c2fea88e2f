"""OpenTelemetry's spans of models, guards and middleware: each carries its score or its decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel

from langchain_saliency_guard import GroundingGuard, GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from in_memory_telemetry import Telemetry, attribute, instrumented

Says = Callable[..., GenericFakeChatModel]
FALSE = "The image shows a zebra."


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with instrumented() as kept:
        yield kept


async def test_calls_of_the_model_carry_their_score(model: SaliencyGuardedLVLM, ask: Any, telemetry: Telemetry) -> None:
    with telemetry.tracer_provider.get_tracer("app").start_as_current_span("request"):
        said = model.invoke([ask()])
        await model.ainvoke([ask()])
        list(model.stream([ask()]))
    spans = telemetry.spans("chat")
    (request,) = telemetry.spans("request")
    score = said.response_metadata["grounding"]["score"]
    assert attribute(spans, "score") == pytest.approx([score] * 3)
    assert {span.parent.span_id for span in spans} == {request.context.span_id}


async def test_runs_of_a_policy_carry_their_decision(
    says: Says, model: SaliencyGuardedLVLM, ask: Any, telemetry: Telemetry
) -> None:
    policy = GuardPolicy(min_grounding=0.5)
    model.model_copy(update={"policy": policy}).invoke([ask()])
    (guard,) = telemetry.spans("guardrail")
    assert attribute([guard], "decision") == ["accepted"]
    assert {span.parent.span_id for span in telemetry.spans("chat")} == {guard.context.span_id}

    telemetry.spans_kept.clear()
    GroundingGuard(policy).around(says(FALSE)).invoke([ask()])
    assert attribute(telemetry.spans("guardrail"), "decision") == ["flagged"]
    assert attribute(telemetry.spans("score"), "score")[0] < 0.5

    telemetry.spans_kept.clear()
    agent = create_agent(says(FALSE, FALSE), tools=[], middleware=[GroundingMiddleware(policy)])
    await agent.ainvoke({"messages": [ask()]})
    assert attribute(telemetry.spans("guardrail"), "decision") == ["flagged"]
    told = "".join(span.to_json() for span in telemetry.spans())
    assert FALSE not in told
