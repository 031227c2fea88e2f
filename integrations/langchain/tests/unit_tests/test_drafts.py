"""Drafts: what is refused is in no stream, event, callback or trace; what is given out is in all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run
from langgraph.graph import START, MessagesState, StateGraph

from langchain_saliency_guard import GroundingGuard, GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy, LowGroundingError

Says = Callable[..., GenericFakeChatModel]
FALSE = "The image shows a zebra."
RETRY = GuardPolicy(min_grounding=0.5, max_retries=1)
RAISES = GuardPolicy(min_grounding=0.5, on_low="raise")
TELLS = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
MODES = ["messages", "updates", "values", "custom", "debug", "tasks", "checkpoints"]


class Everything(BaseCallbackHandler):
    """Keeps all that a handler is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *values, **named: self.told.append(f"{name} {values!r} {named!r}")


class Trace(BaseTracer):
    """Keeps all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self.runs.append(run.model_dump_json(fallback=str) if hasattr(run, "model_dump_json") else str(run.__dict__))


@pytest.fixture
def true(model: SaliencyGuardedLVLM, ask: Any) -> str:
    return str(model.invoke([ask()]).content)


def node(model: Any, inner: bool = False) -> Any:
    """A graph whose node asks a guarded model; in a subgraph if it is to be."""

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph: Any = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
    if inner:
        return StateGraph(MessagesState).add_node("inner", graph).add_edge(START, "inner").compile()
    return graph


def graphs(says: Says, true: str) -> Iterator[tuple[str, Any]]:
    """Guarded graphs and what each of them says in the end."""
    yield true, create_agent(says(FALSE, true), tools=[], middleware=[GroundingMiddleware(RETRY)])
    told = GroundingMiddleware(GuardPolicy(min_grounding=0.5), on_low="fallback", fallback_model=says("Ask a person."))
    yield "Ask a person.", create_agent(says(FALSE), tools=[], middleware=[told])
    for inner in (False, True):
        yield "Look again.", node(GroundingGuard(TELLS).around(says(FALSE)), inner=inner)
    bound = says(FALSE).bind(stop=["\n"]).with_fallbacks([says("Never asked.")])
    yield "Look again.", node(GroundingGuard(TELLS).around(bound))


def text_of(messages: list[BaseMessage]) -> str:
    return "".join(message.text for message in messages)


@pytest.mark.parametrize("subgraphs", [False, True])
def test_streams_of_graphs_hold_no_refused_text(says: Says, ask: Any, true: str, subgraphs: bool) -> None:
    for expected, graph in graphs(says, true):
        handler, tracer = Everything(), Trace()
        config = {"callbacks": [handler, tracer]}
        parts = list(graph.stream({"messages": [ask()]}, config, stream_mode=MODES, subgraphs=subgraphs))
        heard = repr(parts) + "".join(handler.told) + "".join(tracer.runs)
        assert "zebra" not in heard
        assert expected in heard
        if subgraphs:
            streamed = [part[2][0] for part in parts if part[1] == "messages"]
            assert text_of(streamed) == expected


async def test_streams_of_the_event_loop_hold_none_either(says: Says, ask: Any, true: str) -> None:
    for expected, graph in graphs(says, true):
        parts = [part async for part in graph.astream({"messages": [ask()]}, stream_mode=MODES, subgraphs=True)]
        assert "zebra" not in repr(parts)
        assert text_of([part[2][0] for part in parts if part[1] == "messages"]) == expected


@pytest.mark.filterwarnings("ignore:astream_events version='v1' is deprecated")
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_events_hold_none(says: Says, ask: Any, true: str, version: Any) -> None:
    for expected, graph in graphs(says, true):
        events = [event async for event in graph.astream_events({"messages": [ask()]}, version=version)]
        assert "zebra" not in repr(events)
        written = [event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"]
        assert text_of(written) == expected
        ended = [event for event in events if event["event"] == "on_chat_model_end"]
        assert len(ended) == 1


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
async def test_events_of_the_third_version_hold_none(says: Says, ask: Any, true: str) -> None:
    for expected, graph in graphs(says, true):
        stream = await graph.astream_events({"messages": [ask()]}, version="v3")
        events = [event async for event in stream]
        assert "zebra" not in repr(events)
        assert expected in repr(await stream.output())


async def drained(graph: Any, given: Any, config: Any, parts: list[Any], *, asynchronous: bool) -> None:
    """Read a graph's streams to their end, or to their error."""
    if not asynchronous:
        parts.extend(graph.stream(given, config, stream_mode=MODES))
        return
    async for part in graph.astream(given, config, stream_mode=MODES):
        parts.append(part)  # noqa: PERF401 - what came before an error counts


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_answer_that_is_raised_is_nowhere(says: Says, ask: Any, asynchronous: bool) -> None:
    for graph in (
        create_agent(says(FALSE), tools=[], middleware=[GroundingMiddleware(RAISES)]),
        node(GroundingGuard(RAISES).around(says(FALSE))),
    ):
        handler, tracer = Everything(), Trace()
        config: Any = {"callbacks": [handler, tracer]}
        parts: list[Any] = []
        with pytest.raises(LowGroundingError):
            await drained(graph, {"messages": [ask()]}, config, parts, asynchronous=asynchronous)
        heard = repr(parts) + "".join(handler.told) + "".join(tracer.runs)
        assert "zebra" not in heard
        assert "raised" in "".join(handler.told)  # The report says so.


def test_a_model_s_own_callbacks_hear_only_what_is_given_out(says: Says, ask: Any, true: str) -> None:
    handler = Everything()
    model = says(FALSE, true).model_copy(update={"callbacks": [handler]})
    agent = create_agent(model, tools=[], middleware=[GroundingMiddleware(RETRY)])
    assert agent.invoke({"messages": [ask()]})["messages"][-1].text == true
    assert "zebra" not in "".join(handler.told)
    assert true in "".join(handler.told)


def test_tokens_of_all_attempts_are_counted(ask: Any) -> None:
    policy = GuardPolicy(min_grounding=1.0, max_retries=2)
    alone = SaliencyGuardedLVLM(seed=1).invoke([ask()]).usage_metadata
    agent = create_agent(SaliencyGuardedLVLM(seed=1), tools=[], middleware=[GroundingMiddleware(policy)])
    with get_usage_metadata_callback() as counted:
        message = agent.invoke({"messages": [ask()]})["messages"][-1]
    assert message.usage_metadata["input_tokens"] == 3 * alone["input_tokens"]
    (total,) = counted.usage_metadata.values()
    assert total == message.usage_metadata


def test_refused_texts_are_shown_where_they_are_asked_for(says: Says, ask: Any, true: str) -> None:
    agent = create_agent(says(FALSE, true), tools=[], middleware=[GroundingMiddleware(RETRY, report="full")])
    report = agent.invoke({"messages": [ask()]})["messages"][-1].response_metadata["grounding"]
    assert [attempt["text"] for attempt in report["attempts"]] == [FALSE, true]


def test_the_model_s_own_policy_tells_nobody_either(ask: Any) -> None:
    handler = Everything()
    never = GuardPolicy(min_grounding=1.0, max_retries=2, on_low="fallback", fallback=lambda *_: "I cannot tell.")
    shown = SaliencyGuardedLVLM(seed=1).invoke([ask()]).text
    message = SaliencyGuardedLVLM(seed=1, policy=never).invoke([ask()], {"callbacks": [handler]})
    assert message.text == "I cannot tell."
    assert shown not in "".join(handler.told) + message.model_dump_json()
    assert "grounding_retry" in "".join(handler.told)


def test_a_message_s_report_is_small(says: Says, ask: Any) -> None:
    message = SaliencyGuardedLVLM().invoke([ask()])
    assert len(message.text) > 100
    assert len(message.model_dump_json()) < 3_000
    long = "In the image, there is a cup, an apple, a keyboard and a book. " * 2
    guarded = GroundingGuard(GuardPolicy(min_grounding=0.0)).around(says(long[:112])).invoke([ask()])
    assert len(guarded.model_dump_json()) < 3_000
    agent = create_agent(says(long[:112]), tools=[], middleware=[GroundingMiddleware(GuardPolicy(min_grounding=0.0))])
    state = agent.invoke({"messages": [ask()]})
    assert len(state["messages"][-1].model_dump_json()) < 3_000
    assert len(json.dumps(state["grounding"])) < 300


def test_what_is_inside_of_a_guarded_model_may_be_anything(says: Says, ask: Any) -> None:
    handler = Everything()
    chain = RunnableLambda(lambda chat: chat) | says(FALSE)
    message = GroundingGuard(TELLS).around(chain).invoke([ask()], {"callbacks": [handler]})
    assert isinstance(message, AIMessage)
    assert message.text == "Look again."
    assert "zebra" not in "".join(handler.told)
