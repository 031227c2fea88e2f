"""What is judged, what there is nothing to judge about, and what nobody could judge: no answer passes unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from pydantic import BaseModel

from langchain_saliency_guard import GroundingGuard, GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import ConfigError, GuardPolicy, ImageError, LowGroundingError

Says = Callable[..., GenericFakeChatModel]
FALSE = "The image shows a zebra."
POLICY = GuardPolicy(min_grounding=0.5)
RAISES = GuardPolicy(min_grounding=0.5, on_low="raise", unscored="raise")
PARIS = "The capital of France is Paris."


class Scripted(GenericFakeChatModel):
    """A model that takes tools, and says what it is told to."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


class Caption(BaseModel):
    """A caption."""

    caption: str
    animal: str = "an animal in the image"


def scripted(*messages: AIMessage) -> Scripted:
    def given() -> Iterator[AIMessage]:
        yield from messages

    return Scripted(messages=given())


def call(name: str, text: str = "", **arguments: Any) -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": name, "args": arguments, "id": "1", "type": "tool_call"}])


def report(state: dict[str, Any]) -> dict[str, Any]:
    answer = next(message for message in reversed(state["messages"]) if isinstance(message, AIMessage))
    found: dict[str, Any] = answer.response_metadata["grounding"]
    return found


def look(where: str) -> str:
    """Look there."""
    return f"a table, {where}"


def say(what: str = "nothing") -> str:
    """Say it."""
    return what


@pytest.fixture
def true(model: SaliencyGuardedLVLM, ask: Any) -> str:
    return str(model.invoke([ask()]).content)


def test_an_empty_answer_is_refused(says: Says, ask: Any, true: str) -> None:
    retry = GuardPolicy(min_grounding=0.5, max_retries=1)
    state = create_agent(says("", true), middleware=[GroundingMiddleware(retry)]).invoke({"messages": [ask()]})
    assert [attempt["verdict"] for attempt in report(state)["attempts"]] == ["refused", "accepted"]
    with pytest.raises(LowGroundingError, match="empty"):
        create_agent(says(""), middleware=[GroundingMiddleware(RAISES)]).invoke({"messages": [ask()]})
    with pytest.raises(LowGroundingError, match="empty"):
        GroundingGuard(RAISES).around(says("")).invoke([ask()])
    assert (
        GroundingGuard(POLICY).around(says("")).invoke([ask()]).response_metadata["grounding"]["decision"] == "flagged"
    )


def test_the_fields_of_a_structured_answer_are_judged(ask: Any, true: str) -> None:
    bad = call("Caption", caption=FALSE, animal="There is a zebra.")
    agent = create_agent(scripted(bad), middleware=[GroundingMiddleware(POLICY)], response_format=ToolStrategy(Caption))
    state = agent.invoke({"messages": [ask()]})
    assert report(state)["decision"] == "flagged"
    assert state["structured_response"] == Caption(caption=FALSE, animal="There is a zebra.")
    raising = create_agent(
        scripted(bad), middleware=[GroundingMiddleware(RAISES)], response_format=ToolStrategy(Caption)
    )
    with pytest.raises(LowGroundingError):
        raising.invoke({"messages": [ask()]})
    tells = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
    agent = create_agent(scripted(bad), middleware=[GroundingMiddleware(tells)], response_format=ToolStrategy(Caption))
    state = agent.invoke({"messages": [ask()]})
    assert state["messages"][-1].text == "Look again."
    assert not state.get("structured_response")
    assert "zebra" not in repr(state["messages"])
    # What is no sentence is a claim of a kind that no label stands behind: no number, and a reason.
    word = call("Caption", caption=true, animal="zebra")
    agent = create_agent(
        scripted(word), middleware=[GroundingMiddleware(POLICY)], response_format=ToolStrategy(Caption)
    )
    unknown = report(agent.invoke({"messages": [ask()]}))
    assert (unknown["decision"], unknown["score"]) == ("unscored", None)
    assert "does not cover" in unknown["reason"]


def test_a_text_beside_a_tool_call_is_judged(ask: Any, true: str) -> None:
    agent = create_agent(
        scripted(call("look", FALSE, where="left"), AIMessage(true)), [look], middleware=[GroundingMiddleware(POLICY)]
    )
    messages = agent.invoke({"messages": [ask()]})["messages"]
    assert messages[1].response_metadata["grounding"]["decision"] == "flagged"
    assert messages[-1].response_metadata["grounding"]["decision"] == "accepted"


def test_the_arguments_of_a_tool_call_are_judged(ask: Any, true: str) -> None:
    def decision(policy: GuardPolicy, *args: Any, **arguments: Any) -> tuple[str, str]:
        middleware = [GroundingMiddleware(policy)]
        said = scripted(call("say", *args, **arguments), AIMessage(true))
        messages = create_agent(said, [say], middleware=middleware).invoke({"messages": [ask()]})["messages"]
        guarded = GroundingGuard(policy).around(scripted(call("say", *args, **arguments))).invoke([ask()])
        reports = [message.response_metadata["grounding"] for message in (messages[1], guarded)]
        assert reports[0]["decision"] == reports[1]["decision"]
        return reports[0]["decision"], reports[0]["reason"] or ""

    assert decision(POLICY, what=FALSE)[0] == "flagged"
    assert decision(POLICY, what=true)[0] == "accepted"
    for words in ("left", "Anna"):  # No claim, and one of a kind that no label stands behind.
        assert decision(POLICY, what=words)[0] == "unscored"
        assert decision(POLICY, true, what=words)[0] == "unscored"
        assert decision(POLICY, FALSE, what=words)[0] == "flagged"
        with pytest.raises(LowGroundingError):
            decision(RAISES, what=words)
    assert decision(RAISES) == ("not_applicable", "a tool call without arguments claims nothing")
    untold = GroundingMiddleware(RAISES, should_score=lambda _, message: not message.tool_calls)
    agent = create_agent(scripted(call("say", what="Anna"), AIMessage(true)), [say], middleware=[untold])
    assert report(agent.invoke({"messages": [ask()]}))["decision"] == "accepted"


def test_content_that_nobody_can_judge_leaves_an_answer_unscored(ask: Any, true: str) -> None:
    text = {"type": "text", "text": true}
    for block, decision in (
        ({"type": "non_standard", "value": {"text": FALSE}}, "unscored"),
        ({"type": "output_text", "text": FALSE}, "unscored"),
        ({"type": "reasoning", "reasoning": "Hm."}, "accepted"),
    ):
        message = GroundingGuard(POLICY).invoke({"messages": [ask()], "answer": AIMessage([text, block])})
        assert message.response_metadata["grounding"]["decision"] == decision


def test_a_picture_in_the_system_message_counts(says: Says, ask: Any) -> None:
    system = SystemMessage(ask().content)
    agent = create_agent(says(FALSE), tools=[], system_prompt=system, middleware=[GroundingMiddleware(POLICY)])
    assert report(agent.invoke({"messages": [HumanMessage("What does the image show?")]}))["decision"] == "flagged"


def test_a_text_beside_a_structured_answer_is_judged(ask: Any, true: str) -> None:
    both = call("Caption", FALSE, caption=true, animal=true)
    agent = create_agent(
        scripted(both), middleware=[GroundingMiddleware(POLICY)], response_format=ToolStrategy(Caption)
    )
    assert report(agent.invoke({"messages": [ask()]}))["decision"] == "flagged"


class Forgets(AgentMiddleware):
    """Replaces the chat by a text without its pictures, as `SummarizationMiddleware` does."""

    def before_model(self, state: Any, runtime: Any) -> dict[str, Any]:
        kept = HumanMessage("The user showed a picture and asked what it shows.")
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), kept]}


def test_a_picture_that_was_summarised_away_leaves_the_answer_unscored(says: Says, ask: Any) -> None:
    for order in (1, -1):
        middleware = [GroundingMiddleware(POLICY), Forgets()][::order]
        state = create_agent(says(FALSE), middleware=middleware).invoke({"messages": [ask()]})
        assert report(state)["decision"] == "unscored"
        assert "no longer" in report(state)["reason"]
        assert "grounding_saw_picture" not in state
    with pytest.raises(LowGroundingError, match="no longer"):
        create_agent(says(FALSE), middleware=[GroundingMiddleware(RAISES), Forgets()]).invoke({"messages": [ask()]})


def test_a_turn_about_no_picture_passes(says: Says, ask: Any, true: str) -> None:
    chat = [ask(), AIMessage(true), HumanMessage("What is the capital of France?")]
    message = GroundingGuard(RAISES).around(says(PARIS)).invoke(chat)
    assert message.text == PARIS
    assert message.response_metadata["grounding"]["decision"] == "not_applicable"
    state = create_agent(says(PARIS), middleware=[GroundingMiddleware(RAISES)]).invoke({"messages": chat})
    assert report(state)["decision"] == "not_applicable"
    about = [*chat[:-1], HumanMessage("What is on the right?")]
    with pytest.raises(LowGroundingError):
        GroundingGuard(RAISES).around(says("On the right, there is a zebra.")).invoke(about)


def test_a_caller_says_what_to_score(says: Says, ask: Any) -> None:
    asked: list[Any] = []

    def never(request: Any, message: AIMessage) -> bool:
        asked.append((request, message))
        return False

    message = GroundingGuard(RAISES, should_score=never).around(says(FALSE)).invoke([ask()])
    assert message.response_metadata["grounding"]["decision"] == "not_applicable"
    state = create_agent(says(FALSE), middleware=[GroundingMiddleware(RAISES, should_score=never)]).invoke(
        {"messages": [ask()]}
    )
    assert report(state)["decision"] == "not_applicable"
    assert [message.text for _, message in asked] == [FALSE, FALSE]
    assert asked[1][0].messages[-1] == state["messages"][0]
    always = GroundingMiddleware(POLICY, should_score=lambda *_: True)
    state = create_agent(says(PARIS), middleware=[always]).invoke({"messages": [HumanMessage("Where is Paris?")]})
    assert report(state)["decision"] == "unscored"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "base64": "aaaa", "mime_type": "application/pdf"},
        {"type": "image", "file_id": "file-123"},
        {"type": "image", "url": "https://example.com/a.png"},
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_the_scorer_cannot_read_kills_no_agent(says: Says, ask: Any, block: Any, asynchronous: bool) -> None:
    chat = [SystemMessage("Be brief."), ask(), HumanMessage([block, {"type": "text", "text": "And this?"}])]
    agent = create_agent(says(FALSE), middleware=[GroundingMiddleware(POLICY)])
    state = await agent.ainvoke({"messages": chat}) if asynchronous else agent.invoke({"messages": chat})
    assert (report(state)["decision"], state["messages"][-1].text) == ("unscored", FALSE)
    assert "the scorer could not judge it" in report(state)["reason"]
    guarded = GroundingGuard(POLICY).around(says(FALSE))
    message = await guarded.ainvoke(chat) if asynchronous else guarded.invoke(chat)
    assert message.response_metadata["grounding"]["decision"] == "unscored"
    with pytest.raises(LowGroundingError, match="could not"):
        GroundingGuard(RAISES).around(says(FALSE)).invoke(chat)


def test_trouble_is_raised_where_that_is_asked_for(says: Says) -> None:
    chat = [HumanMessage([{"type": "image", "url": "https://example.com/a.png"}])]
    with pytest.raises(ImageError):
        GroundingGuard(POLICY, on_error="raise").around(says(FALSE)).invoke(chat)
    with pytest.raises(ImageError):
        create_agent(says(FALSE), middleware=[GroundingMiddleware(POLICY, on_error="raise")]).invoke({"messages": chat})


def test_a_fallback_has_to_be_there() -> None:
    with pytest.raises(ConfigError, match="fallback_model"):
        GroundingMiddleware(GuardPolicy(min_grounding=0.5, on_low="fallback"))
