"""GroundingMiddleware in agents: retries, a fallback model, flags, errors, and a person in the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_saliency_guard import GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import ConfigError, GuardPolicy, LowGroundingError, RetryPlan

Says = Callable[..., GenericFakeChatModel]
FALSE = "The image shows a zebra."
ALSO_FALSE = "The image shows a bus."
RETRY = GuardPolicy(min_grounding=0.5, max_retries=1)


@pytest.fixture
def true(model: SaliencyGuardedLVLM, ask: Any) -> str:
    return str(model.invoke([ask()]).content)


def agent(model: Any, middleware: GroundingMiddleware, **settings: Any) -> Any:
    return create_agent(model, tools=[], middleware=[middleware], **settings)


async def test_a_refused_answer_is_drawn_anew(says: Says, ask: Any, true: str) -> None:
    for asynchronous in (False, True):
        guarded = agent(says(FALSE, true), GroundingMiddleware(RETRY))
        given = {"messages": [ask()]}
        state = await guarded.ainvoke(given) if asynchronous else guarded.invoke(given)
        assert state["messages"][-1].content == true
        (report,) = state["grounding"]
        whole = state["messages"][-1].response_metadata["grounding"]
        assert report["decision"] == whole["decision"] == "accepted"
        assert [attempt["verdict"] for attempt in whole["attempts"]] == ["refused", "accepted"]
        assert report["score"] == whole["score"]


def test_another_model_is_asked_otherwise_in_every_retry(ask: Any, true: str) -> None:
    class Noting(GenericFakeChatModel):
        """Notes what it is asked, and how."""

        asked: list[tuple[list[Any], Any]]

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **settings: Any) -> Any:
            self.asked.append((list(messages), settings.get("temperature")))
            return super()._generate(messages, stop, run_manager, **settings)

    class Warm(Noting):
        temperature: float = 0.9

    never = GuardPolicy(min_grounding=0.5, max_retries=2)
    texts = [AIMessage(text) for text in (FALSE, FALSE, true)]
    cold = Noting(messages=iter(texts), asked=[])
    state = agent(cold, GroundingMiddleware(never)).invoke({"messages": [ask()]})
    last = [messages[-1].text for messages, _ in cold.asked]
    assert len(set(last)) == 3
    assert all("Look at the image again" in text for text in last[1:])
    changes = [attempt["change"] for attempt in state["messages"][-1].response_metadata["grounding"]["attempts"]]
    assert changes == ["", *["asked to look again"] * 2]
    # One that takes a temperature samples: above its own, and above the one that the agent asks for, if that is 0, too.
    warm = Warm(messages=iter([AIMessage(FALSE), AIMessage(true)]), asked=[])
    agent(warm, GroundingMiddleware(RETRY)).invoke({"messages": [ask()]})
    assert [temperature for _, temperature in warm.asked] == [None, 0.9]
    assert len(warm.asked[1][0]) == 1


async def test_then_the_fallback_model_is_asked(says: Says, ask: Any, true: str, model: SaliencyGuardedLVLM) -> None:
    guarded = agent(says(FALSE, ALSO_FALSE), GroundingMiddleware(RETRY, fallback_model=model))
    state = guarded.invoke({"messages": [ask()]})
    assert state["messages"][-1].content == true
    assert state["grounding"][0]["decision"] == "fallback"
    assert len(state["messages"][-1].response_metadata["grounding"]["attempts"]) == 3
    guarded = agent(says(FALSE, ALSO_FALSE), GroundingMiddleware(RETRY, fallback_model=model))
    assert (await guarded.ainvoke({"messages": [ask()]}))["messages"][-1].content == true


def test_then_it_is_flagged_or_raised(says: Says, ask: Any) -> None:
    state = agent(says(FALSE, ALSO_FALSE), GroundingMiddleware(RETRY)).invoke({"messages": [ask()]})
    assert state["grounding"][0]["decision"] == "flagged"
    assert state["messages"][-1].content in {FALSE, ALSO_FALSE}
    with pytest.raises(LowGroundingError) as raised:
        agent(says(FALSE, ALSO_FALSE), GroundingMiddleware(RETRY, on_low="raise")).invoke({"messages": [ask()]})
    assert len(raised.value.attempts) == 2


def test_reports_of_all_turns_are_kept(says: Says, ask: Any, true: str) -> None:
    guarded = agent(
        says(true, FALSE), GroundingMiddleware(GuardPolicy(min_grounding=0.5)), checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "1"}}
    guarded.invoke({"messages": [ask()]}, config)
    state = guarded.invoke({"messages": [HumanMessage("Describe the image in detail.")]}, config)
    assert len(state["grounding"]) == 2
    assert state["grounding"][0]["decision"] == "accepted"


async def test_drafts_do_not_leak_into_streams(says: Says, ask: Any, true: str) -> None:
    guarded = agent(says(FALSE, true), GroundingMiddleware(RETRY))
    shown = [chunk.content for chunk, _ in guarded.stream({"messages": [ask()]}, stream_mode="messages")]
    assert "".join(shown) == true
    strict = GuardPolicy(min_grounding=1.0, max_retries=1)
    other = agent(SaliencyGuardedLVLM(seed=1), GroundingMiddleware(strict, fallback_model=says("Ask a person.")))
    shown = [chunk.content async for chunk, _ in other.astream({"messages": [ask()]}, stream_mode="messages")]
    assert "".join(shown) == "Ask a person."


def test_what_is_no_answer_to_a_picture_passes(says: Says) -> None:
    state = agent(says("Hello!"), GroundingMiddleware(RETRY)).invoke({"messages": [HumanMessage("Hello")]})
    assert state["messages"][-1].content == "Hello!"
    assert state["messages"][-1].response_metadata["grounding"]["decision"] == "not_applicable"
    assert state.get("grounding", []) == []


def test_retries_that_this_model_cannot_make_are_refused(says: Says, ask: Any) -> None:
    stricter = GuardPolicy(min_grounding=1.0, max_retries=3, retry=RetryPlan(new_seed=False, alpha_step=0.1))
    for model in (SaliencyGuardedLVLM(), says(FALSE)):  # SGRS is off, or there is none.
        with pytest.raises(ConfigError, match="alpha_step"):
            agent(model, GroundingMiddleware(stricter)).invoke({"messages": [ask()]})


async def test_a_retry_does_not_fetch_and_prepare_its_prompt_again(counts: Any) -> None:
    never = GuardPolicy(min_grounding=1.0, max_retries=2)
    guarded = agent(SaliencyGuardedLVLM(seed=1, fetch_image=counts.fetch), GroundingMiddleware(never))
    for calls in (1, 2):
        given = {"messages": [counts.message()]}
        state = guarded.invoke(given) if calls == 1 else await guarded.ainvoke(given)
        assert len(state["messages"][-1].response_metadata["grounding"]["attempts"]) == 3
        assert (len(counts.fetched), counts.prepared) == (calls, calls)


def test_the_scorer_is_not_asked_about_what_it_cannot_read(says: Says) -> None:
    file = HumanMessage([{"type": "file", "base64": "aaaa", "mime_type": "application/pdf"}])
    assert (
        agent(says("Three."), GroundingMiddleware(RETRY)).invoke({"messages": [file]})["messages"][-1].text == "Three."
    )


def test_an_exhausted_model_is_an_error(says: Says, ask: Any) -> None:
    with pytest.raises((StopIteration, RuntimeError)):
        agent(says(FALSE), GroundingMiddleware(RETRY)).invoke({"messages": [ask()]})


def test_two_guards_in_one_agent(says: Says, ask: Any, true: str) -> None:
    inner = GroundingMiddleware(RETRY, name="retries")
    outer = GroundingMiddleware(GuardPolicy(min_grounding=0.5, on_low="raise"), name="raises")
    good = create_agent(says(FALSE, true), tools=[], middleware=[outer, inner])
    state = good.invoke({"messages": [ask()]})
    assert state["messages"][-1].content == true
    assert state["messages"][-1].response_metadata["grounding"]["decision"] == "accepted"
    with pytest.raises(LowGroundingError):
        create_agent(says(FALSE, FALSE), tools=[], middleware=[outer, inner]).invoke({"messages": [ask()]})


def test_a_repaired_answer_is_what_is_left(says: Says, ask: Any) -> None:
    repairs = GuardPolicy(min_grounding=0.5, on_low="repair")
    guarded = agent(says("There is a zebra. There is a cup."), GroundingMiddleware(repairs))
    parts = list(guarded.stream({"messages": [ask()]}, stream_mode=["messages", "updates", "values"]))
    state = [part for mode, part in parts if mode == "values"][-1]
    assert state["messages"][-1].content == "There is a cup."
    assert state["grounding"][0]["decision"] == "repaired"
    assert "zebra" not in repr(parts)
