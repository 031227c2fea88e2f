"""What agents and workflows end with beside an answer of their own: answers they are stopped with, objects, results."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentOutput, AgentWorkflow, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool

from llama_index.llms.saliency_guard import GroundedAgentMixin, GroundingScoreEvent
from saliency_guard import ConfigError, GuardPolicy, LowGroundingError

BAD = "There is a zebra."
THOUGHT = "Thought: I can answer without using any more tools.\nAnswer: "
POLICY = GuardPolicy(min_grounding=0.5)
RAISES = GuardPolicy(min_grounding=0.5, on_low="raise", unscored="raise")
Ask = Callable[..., list[ChatMessage]]


class GroundedReActAgent(GroundedAgentMixin, ReActAgent):
    pass


def run(agent: Any, message: ChatMessage, **settings: Any) -> AgentOutput:
    return streamed(agent, message, **settings)[0]


def two_agents(llm: Any, policy: GuardPolicy, **settings: Any) -> AgentWorkflow:
    def look() -> str:
        """Look."""
        return "a table"

    agents = [
        GroundedReActAgent(name=name, description=f"The {name}.", llm=llm, tools=[look], policy=policy)
        for name in ("first", "second")
    ]
    return AgentWorkflow(agents=agents, root_agent="first", **settings)


def streamed(workflow: Any, message: ChatMessage, **settings: Any) -> tuple[AgentOutput, list[Any]]:
    async def ran() -> tuple[AgentOutput, list[Any]]:
        handler = workflow.run(user_msg=message, **settings)
        events = [event async for event in handler.stream_events()]
        return await handler, events

    return asyncio.run(ran())


def test_the_answer_that_an_agent_is_stopped_with_is_judged(says: Any, ask: Ask) -> None:
    def look() -> str:
        """Look."""
        return "a table"

    action = "Thought: I need a tool.\nAction: look\nAction Input: {}"

    def stopped(policy: GuardPolicy, answer: str) -> tuple[AgentOutput, list[Any]]:
        agent = GroundedReActAgent(
            llm=says(action, answer),
            tools=[FunctionTool.from_defaults(look)],
            policy=policy,
            early_stopping_method="generate",
        )

        return streamed(agent, ask()[0], max_iterations=1)

    output, _ = stopped(POLICY, BAD)
    assert (str(output), output.raw["grounding"]["decision"]) == (BAD, "flagged")
    assert stopped(POLICY, "There is a cup.")[0].raw["grounding"]["decision"] == "accepted"
    tells = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
    output, events = stopped(tells, BAD)
    assert (str(output), output.raw["grounding"]["decision"]) == ("Look again.", "fallback")
    assert "zebra" not in repr(events)
    with pytest.raises(LowGroundingError):
        stopped(RAISES, BAD)


def test_an_object_made_of_the_answer_is_marked(says: Any, ask: Ask) -> None:
    made = {"what": "a zebra"}
    settings: dict[str, Any] = {"tools": [], "structured_output_fn": lambda _: made}
    output = run(GroundedReActAgent(llm=says(THOUGHT + "There is a cup."), policy=POLICY, **settings), ask()[0])
    assert output.raw["grounding"]["decision"] == "accepted"
    assert output.raw["grounding"]["structured_response"]["decision"] == "unscored"
    with pytest.raises(ConfigError, match="object"):
        run(GroundedReActAgent(llm=says(THOUGHT + "There is a cup."), policy=RAISES, **settings), ask()[0])


def test_the_answer_that_a_workflow_is_stopped_with_is_judged(says: Any, ask: Ask, heard: list[Any]) -> None:
    action = "Thought: I need a tool.\nAction: look\nAction Input: {}"

    def stopped(policy: GuardPolicy, answer: str) -> tuple[AgentOutput, list[Any]]:
        workflow = two_agents(says(action, answer), policy, early_stopping_method="generate")
        return streamed(workflow, ask()[0], max_iterations=1)

    output, _ = stopped(POLICY, BAD)
    assert (str(output), output.raw["grounding"]["decision"]) == (BAD, "flagged")
    heard.clear()
    tells = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
    output, events = stopped(tells, BAD)
    assert (str(output), output.raw["grounding"]["decision"]) == ("Look again.", "fallback")
    assert "zebra" not in repr(events) + repr(heard)
    with pytest.raises(LowGroundingError):
        stopped(RAISES, BAD)


@pytest.mark.filterwarnings("ignore:is_running called")  # By LlamaIndex's own agent.
def test_the_workflow_of_other_agents_is_left_alone(says: Any, ask: Ask) -> None:
    llm = says("Thought: I look.\nAction: look\nAction Input: {}", BAD)
    agent = ReActAgent(llm=llm, tools=[], streaming=False)
    run(GroundedReActAgent(llm=says(THOUGHT + "There is a cup."), tools=[], policy=POLICY), ask()[0])
    workflow = AgentWorkflow(agents=[agent], early_stopping_method="generate")
    assert str(streamed(workflow, ask()[0], max_iterations=1)[0]) == BAD


def test_an_object_that_a_workflow_makes_is_marked(says: Any, ask: Ask, heard: list[Any]) -> None:
    def made(policy: GuardPolicy) -> AgentOutput:
        workflow = two_agents(
            says(THOUGHT + "There is a cup."), policy, structured_output_fn=lambda _: {"what": "a zebra"}
        )
        return streamed(workflow, ask()[0])[0]

    output = made(POLICY)
    assert output.structured_response == {"what": "a zebra"}
    assert output.raw["grounding"]["decision"] == "accepted"
    assert output.raw["grounding"]["structured_response"]["decision"] == "unscored"
    decisions = [event.report["decision"] for event in heard if isinstance(event, GroundingScoreEvent)]
    assert decisions == ["accepted", "unscored"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output = made(RAISES)
    assert any("not judged" in str(warning.message) for warning in caught)
    assert output.structured_response is None
    assert "structured_response" not in output.raw["grounding"]


def test_a_tool_s_result_that_is_the_answer_says_so(says: Any, ask: Ask) -> None:
    def look() -> str:
        """Look."""
        return "a table"

    tool = FunctionTool.from_defaults(look, return_direct=True)
    action = "Thought: I need a tool.\nAction: look\nAction Input: {}"
    output = run(GroundedReActAgent(llm=says(action), tools=[tool], policy=RAISES), ask()[0])
    assert str(output) == "a table"
    assert output.raw["response"] == "a table"
    assert output.raw["grounding"]["decision"] == "not_applicable"
    assert "tool" in output.raw["grounding"]["reason"]
