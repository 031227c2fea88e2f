"""Drafts: what is refused is in no stream, event, span or callback; what is given out is in all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import AsyncStreamingResponse
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMCompletionEndEvent
from llama_index.core.instrumentation.span.simple import SimpleSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index_instrumentation import get_dispatcher

from llama_index.llms.saliency_guard import (
    GroundedAgentMixin,
    GroundedQueryEngine,
    GroundingScoreEvent,
    SaliencyGuardedLVLM,
)
from llama_index.llms.saliency_guard._drafts import drafting
from saliency_guard import GuardPolicy, LowGroundingError

DESCRIBE = "Describe the image in detail."
BAD, GOOD = "There is a zebra.", "The image shows a dog."
THOUGHT = "Thought: I can answer without using any more tools.\nAnswer: "
RETRY = GuardPolicy(min_grounding=0.5, max_retries=1)
RAISES = GuardPolicy(min_grounding=0.5, on_low="raise")
TELLS = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
Ask = Callable[..., list[ChatMessage]]


class GroundedReActAgent(GroundedAgentMixin, ReActAgent):
    pass


class GroundedFunctionAgent(GroundedAgentMixin, FunctionAgent):
    pass


class Spans(BaseSpanHandler[SimpleSpan]):
    """Keeps all that spans are told."""

    told: ClassVar[list[str]] = []

    def new_span(self, id_: str, bound_args: Any, instance: Any = None, parent_span_id: Any = None, **_: Any) -> Any:
        self.told.append(f"enter {id_}")
        return SimpleSpan(id_=id_, parent_id=parent_span_id or "")

    def prepare_to_exit_span(
        self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any
    ) -> Any:
        self.told.append(f"exit {id_} {result!r}")
        return self.open_spans.get(id_)

    def prepare_to_drop_span(self, id_: str, bound_args: Any, instance: Any = None, err: Any = None, **_: Any) -> Any:
        self.told.append(f"drop {id_} {err!r}")
        return self.open_spans.get(id_)


@pytest.fixture
def spans() -> Iterator[list[str]]:
    root, handler = get_dispatcher(), Spans()
    handler.told.clear()
    root.add_span_handler(handler)
    yield handler.told
    root.span_handlers.remove(handler)


def told(heard: list[Any], spans: list[str]) -> str:
    return repr(heard) + "".join(spans)


async def answered(engine: GroundedQueryEngine) -> tuple[Any, str]:
    """A response and its whole text, read in the loop that it was made in."""
    response: Any = await engine.aquery(DESCRIBE)
    if isinstance(response, AsyncStreamingResponse):
        return response, str(await response.get_response())
    return response, str(response)


@pytest.mark.parametrize("streaming", [False, True])
def test_engines_tell_nothing_of_what_is_refused(
    says: Any, engine: Any, heard: list[Any], spans: list[str], streaming: bool
) -> None:
    for policy, expected in ((RETRY, GOOD), (TELLS, "Look again.")):
        callbacks = LlamaDebugHandler(print_trace_on_end=False)
        inner = engine(says(BAD, GOOD), "dog", streaming=streaming, callback_manager=CallbackManager([callbacks]))
        guarded = GroundedQueryEngine(inner, policy, callback_manager=CallbackManager([callbacks]))
        for asynchronous in (False, True):
            if asynchronous:
                inner._response_synthesizer._llm.texts[:] = [BAD, GOOD]
            if asynchronous:
                response, text = asyncio.run(answered(guarded))
            else:
                response = guarded.query(DESCRIBE)
                text = str(response)
            assert text == expected
            assert "zebra" not in told(heard, spans)
            assert "zebra" not in repr(callbacks.get_event_pairs(CBEventType.QUERY))
            assert "zebra" not in repr(callbacks.get_events())
            assert "zebra" not in repr(response.metadata)


def test_what_is_given_out_is_told(says: Any, engine: Any, heard: list[Any], spans: list[str]) -> None:
    llm = says(BAD, GOOD)
    GroundedQueryEngine(engine(llm, "dog"), RETRY).query(DESCRIBE)
    ended = [event for event in heard if isinstance(event, (LLMChatEndEvent, LLMCompletionEndEvent))]
    assert ended
    assert all(GOOD in str(event.response) for event in ended)
    assert any("Says" in span and GOOD in span for span in spans)


def test_events_count_a_guard_s_attempts(llm: Any, engine: Any, heard: list[Any]) -> None:
    policy = GuardPolicy(min_grounding=1.0, max_retries=1)
    guarded = GroundedQueryEngine(engine(llm.model_copy(update={"seed": 1}), "dog"), policy)
    report = guarded.query(DESCRIBE).metadata["grounding"]
    scores = [attempt["score"] for attempt in report["attempts"]]
    chosen = scores.index(max(scores))
    # The event of the model's call, and that of the guard.
    assert [event.attempt for event in heard if isinstance(event, GroundingScoreEvent)] == [chosen, chosen]


def test_what_is_raised_is_told_by_its_report_alone(says: Any, engine: Any, heard: list[Any], spans: list[str]) -> None:
    with pytest.raises(LowGroundingError):
        GroundedQueryEngine(engine(says(BAD), "dog"), RAISES).query(DESCRIBE)
    assert "zebra" not in told(heard, spans)
    (event,) = [event for event in heard if isinstance(event, GroundingScoreEvent)]
    assert event.report["decision"] == "raised"


@pytest.mark.parametrize("policy", [RETRY, TELLS, RAISES])
@pytest.mark.parametrize("streaming", [False, True])
def test_agents_tell_nothing_of_what_is_refused(
    says: Any, ask: Ask, heard: list[Any], spans: list[str], policy: GuardPolicy, streaming: bool
) -> None:
    agent = GroundedReActAgent(
        llm=says(THOUGHT + BAD, THOUGHT + "There is a cup."), tools=[], policy=policy, streaming=streaming
    )
    events: list[Any] = []

    async def run() -> str:
        handler = agent.run(user_msg=ask()[0])
        async for event in handler.stream_events():
            events.append(event)  # noqa: PERF401 - what came before an error counts
        return str(await handler)

    if policy is RAISES:
        with pytest.raises(LowGroundingError):
            asyncio.run(run())
    else:
        assert asyncio.run(run()) == ("There is a cup." if policy is RETRY else "Look again.")
    assert "zebra" not in repr(events)
    assert "zebra" not in told(heard, spans)
    assert [event for event in heard if isinstance(event, GroundingScoreEvent)]


def test_a_model_s_own_policy_tells_nothing_either(ask: Ask, heard: list[Any], spans: list[str]) -> None:
    never = GuardPolicy(min_grounding=1.0, max_retries=1, on_low="fallback", fallback=lambda *_: "I cannot tell.")
    llm = SaliencyGuardedLVLM(seed=1)
    shown = str(llm.chat(ask()).message.content)
    heard.clear()
    spans.clear()
    chunks = list(llm.stream_chat(ask(), policy=never))
    assert chunks[-1].message.content == "I cannot tell."
    assert shown not in told(heard, spans) + repr(chunks)


def test_what_is_told_after_the_end_of_a_draft_follows_it(heard: list[Any]) -> None:
    dispatcher = get_dispatcher("llama_index.test")
    with drafting() as shown:
        dispatcher.event(GroundingScoreEvent(report={"number": 1}))
    with drafting() as dropped:
        dispatcher.event(GroundingScoreEvent(report={"number": 2}))
    assert heard == []
    dropped.drop()
    shown.show()
    dispatcher.event(GroundingScoreEvent(report={"number": 3}))
    assert [event.report["number"] for event in heard] == [1, 3]


def test_a_draft_that_fails_is_told(heard: list[Any]) -> None:
    def failing() -> None:
        with drafting():
            get_dispatcher("llama_index.test").event(GroundingScoreEvent(report={"number": 1}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert len(heard) == 1
