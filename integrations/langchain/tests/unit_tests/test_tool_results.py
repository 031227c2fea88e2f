"""Results of tools: an agent reads in them that an answer is not grounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool

from langchain_saliency_guard import GroundingGuard, GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

Says = Callable[..., GenericFakeChatModel]
FALSE = "The image shows a zebra."
POLICY = GuardPolicy(min_grounding=0.5)


class Scripted(GenericFakeChatModel):
    """A model that takes tools, and says what it is told to."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def caller() -> Scripted:
    def given() -> Iterator[AIMessage]:
        yield AIMessage("", tool_calls=[{"name": "describe", "args": {}, "id": "1", "type": "tool_call"}])
        yield AIMessage("Done.")

    return Scripted(messages=given())


def result_of(model: Any) -> str:
    """What an agent reads of a tool that asks a model."""

    @tool
    def describe() -> str:
        """Describe the picture."""
        return str(model())

    agent = create_agent(caller(), [describe], middleware=[GroundingMiddleware(POLICY)])
    state = agent.invoke({"messages": [("user", "What is in my picture?")]})
    (message,) = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    return message.text


def test_a_flagged_answer_in_a_tool_s_result_says_so(says: Says, ask: Any) -> None:
    guarded = GroundingGuard(POLICY).around(says(FALSE))
    text = result_of(lambda: guarded.invoke([ask()]).text)
    assert text.startswith(FALSE)
    assert "not grounded" in text
    inner = create_agent(says(FALSE), middleware=[GroundingMiddleware(POLICY)])
    assert "not grounded" in result_of(lambda: inner.invoke({"messages": [ask()]})["messages"][-1].text)
    assert "not grounded" in result_of(
        lambda: SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0)).invoke([ask()]).text
    )


def test_a_good_answer_is_left_as_it_is(ask: Any, model: SaliencyGuardedLVLM) -> None:
    guarded = GroundingGuard(POLICY).around(model)
    assert result_of(lambda: guarded.invoke([ask()]).text) == model.invoke([ask()]).text


@pytest.mark.parametrize("unscored", ["flag", "pass"])
def test_what_nobody_judged_says_so_unless_it_may_pass(says: Says, unscored: Any) -> None:
    policy = GuardPolicy(min_grounding=0.5, unscored=unscored)
    guard = GroundingGuard(policy, should_score=lambda *_: True)
    text = result_of(lambda: guard.around(says("It is Paris.")).invoke("Where?").text)
    assert ("was not judged" in text) == (unscored == "flag")
