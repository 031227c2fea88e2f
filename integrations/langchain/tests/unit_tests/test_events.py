"""Events: the same from the model, the cache, the guards and the middleware, to handlers and graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from langchain_saliency_guard import GroundingGuard, GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy, LowGroundingError

Says = Callable[..., GenericFakeChatModel]
FALSE = "The image shows a zebra."
RETRY = GuardPolicy(min_grounding=0.5, max_retries=1)


class Heard(BaseCallbackHandler):
    """Keeps grounding events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.events.append((name, data))

    def of(self, name: str) -> list[Any]:
        return [data for kind, data in self.events if kind == name]


@pytest.fixture
def true(model: SaliencyGuardedLVLM, ask: Any) -> str:
    return str(model.invoke([ask()]).content)


@pytest.mark.parametrize("policy", [None, GuardPolicy(min_grounding=0.5), GuardPolicy(min_grounding=1.0)])
async def test_a_cached_answer_tells_its_verdict(ask: Any, policy: GuardPolicy | None) -> None:
    model = SaliencyGuardedLVLM(cache=InMemoryCache(), policy=policy)
    first, second, third = Heard(), Heard(), Heard()
    message = model.invoke([ask()], {"callbacks": [first]})
    assert model.invoke([ask()], {"callbacks": [second]}).text == message.text
    await model.ainvoke([ask()], {"callbacks": [third]})
    report = message.response_metadata["grounding"]
    assert second.events == third.events == [("grounding_report", {**report, "attempt": None})]
    assert first.of("grounding_report") == [{**report, "attempt": 0}]
    assert first.of("grounding_token")


def test_a_tool_s_cached_answer_is_marked_as_the_first_was(ask: Any, true: str) -> None:
    cached = SaliencyGuardedLVLM(cache=InMemoryCache(), policy=GuardPolicy(min_grounding=1.0))

    @tool
    def look() -> str:
        """Look."""
        return cached.invoke([ask()]).text

    def messages() -> Iterator[AIMessage]:
        for number in range(2):
            yield AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": str(number), "type": "tool_call"}])
        yield AIMessage(true)

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

    agent = create_agent(Scripted(messages=messages()), [look], middleware=[GroundingMiddleware(RETRY)])
    results = [part for part in agent.invoke({"messages": [ask()]})["messages"] if isinstance(part, ToolMessage)]
    assert len(results) == 2
    assert all("not grounded" in result.text for result in results)


async def test_progress_and_verdicts_are_in_a_graph_s_custom_stream(says: Says, ask: Any, true: str) -> None:
    def graphs() -> Iterator[Any]:
        yield create_agent(says(FALSE, true), tools=[], middleware=[GroundingMiddleware(RETRY)])
        guarded = GroundingGuard(GuardPolicy(min_grounding=0.5)).around(says(true))

        def answer(state: MessagesState) -> dict[str, Any]:
            return {"messages": [guarded.invoke(state["messages"])]}

        yield StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()

    for attempts, graph in zip((2, 1), graphs(), strict=True):
        handler = Heard()
        config: Any = {"callbacks": [handler]}
        parts = [part async for part in graph.astream({"messages": [ask()]}, config, stream_mode="custom")]
        assert "zebra" not in repr(parts)
        states = [(part["attempt"], part["state"]) for part in parts if part["type"] == "grounding_progress"]
        assert states == [(number, state) for number in range(attempts) for state in ("writing", "judging")]
        assert [part["type"] for part in parts].count("grounding_retry") == attempts - 1
        assert parts[-1]["type"] == "grounding_report"
        assert (parts[-1]["decision"], parts[-1]["attempt"]) == ("accepted", attempts - 1)
        assert {token["attempt"] for token in parts if token["type"] == "grounding_token"} == {attempts - 1}
        assert len({part["run_id"] for part in parts}) == 1
        events = [(part["type"], {name: part[name] for name in set(part) - {"type", "run_id"}}) for part in parts]
        assert events == handler.events


def test_live_scores_are_in_the_custom_stream_of_a_model_without_a_policy(ask: Any, model: SaliencyGuardedLVLM) -> None:
    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
    parts = list(graph.stream({"messages": [ask()]}, stream_mode="custom"))
    assert "".join(part["text"] for part in parts if part["type"] == "grounding_token") == model.invoke([ask()]).text


def test_a_model_s_own_policy_tells_its_attempts(ask: Any) -> None:
    handler = Heard()
    never = GuardPolicy(min_grounding=1.0, max_retries=1)
    SaliencyGuardedLVLM(seed=1, policy=never).invoke([ask()], {"callbacks": [handler]})
    names = [name for name, _ in handler.events if name in ("grounding_progress", "grounding_retry")]
    assert names == ["grounding_progress", "grounding_retry", "grounding_progress"]
    assert [data["attempt"] for data in handler.of("grounding_progress")] == [0, 1]
    (report,) = handler.of("grounding_report")
    scores = [attempt["score"] for attempt in report["attempts"]]
    assert report["attempt"] == scores.index(max(scores))  # The best of them is given out.


def test_a_report_says_which_attempt_is_given_out(says: Says, ask: Any, true: str) -> None:
    fallback = RETRY.model_copy(update={"fallback": lambda *_: "I can not tell.", "on_low": "fallback"})
    strict = RETRY.model_copy(update={"on_low": "raise"})
    for policy, texts, expected in (
        (RETRY, (FALSE, true), ("accepted", 1)),
        (fallback, (FALSE, FALSE), ("fallback", None)),
        (strict, (FALSE, FALSE), ("raised", None)),
    ):
        handler = Heard()
        agent = create_agent(says(*texts), tools=[], middleware=[GroundingMiddleware(policy)])
        with suppress(LowGroundingError):
            agent.invoke({"messages": [ask()]}, {"callbacks": [handler]})
        (report,) = handler.of("grounding_report")
        assert (report["decision"], report["attempt"]) == expected


def test_a_retry_does_not_ask_a_cache(says: Says, ask: Any, true: str) -> None:
    """The first attempt's answer, refused, would come out of it again and again."""

    class Cached(GenericFakeChatModel):
        pass

    source = says(FALSE, FALSE, true)
    model = Cached(messages=source.messages, cache=InMemoryCache())
    policy = GuardPolicy(min_grounding=0.5, max_retries=2)
    state = create_agent(model, tools=[], middleware=[GroundingMiddleware(policy)]).invoke({"messages": [ask()]})
    assert state["messages"][-1].text == true
