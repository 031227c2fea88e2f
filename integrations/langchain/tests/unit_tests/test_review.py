"""A person in the loop: LangChain's protocol, and an answer that nobody sees before the decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import human_in_the_loop
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel, TypeAdapter

from langchain_saliency_guard import GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

Says = Callable[..., GenericFakeChatModel]
Resume = Callable[[Any], Any]
FALSE = "The image shows a zebra."
POLICY = GuardPolicy(min_grounding=0.5)
CONFIG: Any = {"configurable": {"thread_id": "1"}}


def reviewed(model: Any, *middleware: Any, **settings: Any) -> Any:
    guards = middleware or (GroundingMiddleware(POLICY, on_low="interrupt"),)
    return create_agent(model, tools=[], middleware=guards, checkpointer=InMemorySaver(), **settings)


@pytest.fixture
def true(model: SaliencyGuardedLVLM, ask: Any) -> str:
    return str(model.invoke([ask()]).content)


@pytest.fixture
def asked(says: Says, ask: Any, true: str) -> tuple[Any, Resume]:
    """The interrupt of an agent that says something false, and then something true; and how to resume it."""
    agent = reviewed(says(FALSE, true))
    state = agent.invoke({"messages": [ask()]}, CONFIG)
    assert state["messages"][-1].text == "This answer is under review."
    assert "zebra" not in repr(state["messages"])
    (interrupt,) = state["__interrupt__"]
    return interrupt.value, lambda decision: agent.invoke(Command(resume=decision), CONFIG)


def last(state: Any) -> tuple[str, str]:
    message: AIMessage = state["messages"][-1]
    assert len(state["messages"]) == 2
    assert state["grounding"][-1]["decision"] == message.response_metadata["grounding"]["decision"]
    return str(message.content), message.response_metadata["grounding"]["decision"]


def test_the_request_is_langchain_s(asked: tuple[Any, Resume]) -> None:
    request, _ = asked
    TypeAdapter(human_in_the_loop.HITLRequest).validate_python(request)
    (action,) = request["action_requests"]
    assert (action["name"], action["args"]) == ("answer", {"text": FALSE})
    assert "not good enough" in action["description"]
    assert set(request["review_configs"][0]["allowed_decisions"]) == set(get_args(human_in_the_loop.DecisionType))
    assert request["grounding"]["threshold"] == 0.5


@pytest.mark.parametrize(
    ("decision", "given_out"),
    [
        ({"type": "approve"}, (FALSE, "approved")),
        ({"type": "edit", "edited_action": {"name": "answer", "args": {"text": "A cup."}}}, ("A cup.", "edited")),
        ({"type": "reject", "message": "Sorry."}, ("Sorry.", "rejected")),
        ({"type": "reject"}, ("I cannot give an answer that rests on the picture.", "rejected")),
        ({"type": "respond", "message": "A cup."}, ("A cup.", "answered")),
    ],
)
@pytest.mark.parametrize("is_alone", [False, True])
def test_decisions(asked: tuple[Any, Resume], decision: Any, given_out: tuple[str, str], is_alone: bool) -> None:
    _, resume = asked
    state = resume(decision if is_alone else {"decisions": [decision]})
    assert last(state) == given_out
    assert ("zebra" in repr(state)) is (given_out[0] == FALSE)
    assert "grounding_draft" not in state


def test_retry(asked: tuple[Any, Resume], true: str) -> None:
    _, resume = asked
    assert last(resume({"decisions": [{"type": "retry"}]})) == (true, "accepted")


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "shrug"},
        {"decisions": []},
        {"decisions": [{"type": "approve"}, {"type": "approve"}]},
        {"decisions": "approve"},
        {"type": "edit"},
        {"type": "edit", "edited_action": {"name": "answer", "args": {"text": 7}}},
        {"type": "respond"},
        {"type": "reject", "message": 7},
        ["approve"],
        17,
    ],
)
def test_a_wrong_answer_is_asked_again_and_ends_no_thread(asked: tuple[Any, Resume], wrong: Any) -> None:
    request, resume = asked
    for _ in range(2):
        (again,) = resume(wrong)["__interrupt__"]
        TypeAdapter(human_in_the_loop.HITLRequest).validate_python(again.value)
        assert again.value["action_requests"][0]["args"] == request["action_requests"][0]["args"]
        assert "answer with" in again.value["action_requests"][0]["description"]
    assert last(resume({"decisions": [{"type": "approve"}]})) == (FALSE, "approved")


async def test_nothing_is_streamed_before_the_decision(says: Says, ask: Any) -> None:
    for decision, shown in (({"type": "approve"}, FALSE), ({"type": "reject", "message": "No."}, "No.")):
        agent = reviewed(says(FALSE))
        before = [part async for part, _ in agent.astream({"messages": [ask()]}, CONFIG, stream_mode="messages")]
        assert "".join(part.text for part in before) == "This answer is under review."
        resumed = agent.astream(Command(resume={"decisions": [decision]}), CONFIG, stream_mode="messages")
        assert "".join([part.text async for part, _ in resumed]) == shown
        values = (await agent.aget_state(CONFIG)).values
        assert values["messages"][-1].text == shown


def test_a_greedy_model_draws_anew(ask: Any) -> None:
    middleware = GroundingMiddleware(GuardPolicy(min_grounding=1.0), on_low="interrupt")
    agent = reviewed(SaliencyGuardedLVLM(seed=5), middleware)
    agent.invoke({"messages": [ask()]}, CONFIG)
    state = agent.invoke(Command(resume="retry"), CONFIG)
    assert [verdict["decision"] for verdict in state["grounding"]] == ["flagged", "retried", "flagged"]
    state = agent.invoke(Command(resume="approve"), CONFIG)
    report = state["messages"][-1].response_metadata["grounding"]
    assert "sampled again" in report["attempts"][0]["change"]


class Caption(BaseModel):
    """A caption."""

    caption: str


class Scripted(GenericFakeChatModel):
    """A model that takes tools, and says what it is told to."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def test_a_structured_answer_is_held_back_too(ask: Any) -> None:
    call = {"name": "Caption", "args": {"caption": FALSE}, "id": "1", "type": "tool_call"}
    for decision, structured in (("approve", Caption(caption=FALSE)), ("reject", None)):
        model = Scripted(messages=iter([AIMessage("", tool_calls=[call])]))
        agent = reviewed(model, response_format=ToolStrategy(Caption))
        state = agent.invoke({"messages": [ask()]}, CONFIG)
        assert state.get("structured_response") is None
        (interrupt,) = state["__interrupt__"]
        assert interrupt.value["action_requests"][0]["args"]["tool_calls"][0]["args"] == {"caption": FALSE}
        assert agent.invoke(Command(resume={"type": decision}), CONFIG).get("structured_response") == structured


def test_another_guard_leaves_an_answer_under_review_alone(says: Says, ask: Any) -> None:
    inner = GroundingMiddleware(POLICY, on_low="interrupt", name="asks")
    outer = GroundingMiddleware(GuardPolicy(min_grounding=0.5, on_low="raise"), name="raises")
    agent = reviewed(says(FALSE), outer, inner)
    state = agent.invoke({"messages": [ask()]}, CONFIG)
    assert state["__interrupt__"]
    assert last(agent.invoke(Command(resume="approve"), CONFIG)) == (FALSE, "approved")
