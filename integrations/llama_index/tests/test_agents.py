"""Agents whose answers are guarded: what is retried, replaced and flagged, and what leaks (nothing)."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentOutput, AgentStream, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.memory import ChatMemoryBuffer

from llama_index.llms.saliency_guard import GroundedAgentMixin, GroundingRetryEvent, SaliencyGuardedLVLM
from saliency_guard import ConfigError, GuardPolicy, LowGroundingError, RetryPlan
from saliency_guard.scenes.language import DESCRIBE

THOUGHT = "Thought: I can answer without using any more tools.\nAnswer: "
BAD, GOOD = THOUGHT + "There is a zebra.", THOUGHT + "There is a cup."
RETRY = GuardPolicy(min_grounding=0.5, max_retries=1)
Ask = Callable[..., list[ChatMessage]]


class GroundedFunctionAgent(GroundedAgentMixin, FunctionAgent):
    pass


class GroundedReActAgent(GroundedAgentMixin, ReActAgent):
    pass


def look() -> str:
    """Look at the table."""
    return "a table"


@pytest.fixture(scope="module")
def caller() -> SaliencyGuardedLVLM:
    return SaliencyGuardedLVLM(is_function_calling_model=True)


def run(agent: Any, message: ChatMessage, **settings: Any) -> tuple[AgentOutput, str, ChatMemoryBuffer]:
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)

    async def ran() -> tuple[AgentOutput, str]:
        handler = agent.run(user_msg=message, memory=memory, **settings)
        streamed = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
        return await handler, "".join(streamed)

    return (*asyncio.run(ran()), memory)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_good_answer_passes(caller: SaliencyGuardedLVLM, ask: Ask, streaming: bool) -> None:
    agent = GroundedFunctionAgent(llm=caller, tools=[], policy=RETRY, streaming=streaming)
    output, streamed, memory = run(agent, ask()[0])
    assert output.raw["grounding"]["decision"] == "accepted"
    assert output.raw["grounding"]["score"] > 0.5
    assert "cup" in str(output)
    assert streamed == (str(output) if streaming else "")
    assert [message.role.value for message in memory.get()] == ["user", "assistant"]
    assert any(isinstance(block, ImageBlock) for block in memory.get()[0].blocks)


def test_streamed_events_carry_the_scores(caller: SaliencyGuardedLVLM, ask: Ask) -> None:
    async def ran() -> list[Any]:
        llm = caller.model_copy(update={"report": "tokens"})
        handler = GroundedFunctionAgent(llm=llm, tools=[], policy=RETRY).run(user_msg=ask()[0])
        return [event.raw["grounding"] async for event in handler.stream_events() if isinstance(event, AgentStream)]

    reports = asyncio.run(ran())
    assert {len(report["tokens"]) for report in reports[:-1]} == {1}
    assert len(reports[-1]["tokens"]) == len(reports) - 1
    assert reports[-1]["score"] > 0.5


def test_our_llm_draws_with_another_seed(caller: SaliencyGuardedLVLM, ask: Ask, heard: list[Any]) -> None:
    never = GuardPolicy(min_grounding=1.0, max_retries=2, retry=RetryPlan(temperature=1.5))
    agent = GroundedFunctionAgent(llm=caller.model_copy(update={"seed": 1}), tools=[], policy=never, report="full")
    output, streamed, memory = run(agent, ask()[0])
    attempts = output.raw["grounding"]["attempts"]
    assert output.raw["grounding"]["decision"] == "flagged"
    assert len({attempt["text"] for attempt in attempts}) == 3
    assert streamed == str(output)  # Drafts leave nothing in the stream,
    assert len(memory.get()) == 2  # and nothing in the memory.
    assert [event.attempt for event in heard if isinstance(event, GroundingRetryEvent)] == [0, 1]


def test_a_retry_does_not_fetch_and_prepare_its_prompt_again(counts: Any, ask: Ask) -> None:
    never = GuardPolicy(min_grounding=1.0, max_retries=2, retry=RetryPlan(temperature=1.5))
    llm = SaliencyGuardedLVLM(seed=1, fetch_image=counts.fetch, is_function_calling_model=True)
    message = ask(picture=ImageBlock(url="https://example.org/desk.png"))[0]
    output, _, _ = run(GroundedFunctionAgent(llm=llm, tools=[], policy=never), message)
    assert len(output.raw["grounding"]["attempts"]) == 3
    assert (len(counts.fetched), counts.prepared) == (1, 1)


def test_react_is_judged_by_its_answer_alone(says: Any, ask: Ask) -> None:
    agent = GroundedReActAgent(llm=says(BAD, GOOD), tools=[], policy=RETRY, report="full")
    output, streamed, memory = run(agent, ask()[0])
    assert str(output) == "There is a cup."
    assert [attempt["text"] for attempt in output.raw["grounding"]["attempts"]] == [
        "There is a zebra.",
        "There is a cup.",
    ]
    assert "zebra" not in streamed
    assert "zebra" not in "".join(str(message) for message in memory.get())


def test_another_llm_is_asked_otherwise_in_every_retry(says: Any, ask: Ask) -> None:
    never = GuardPolicy(min_grounding=0.5, max_retries=2)
    llm = says(BAD, BAD, BAD)
    report = run(GroundedReActAgent(llm=llm, tools=[], policy=never), ask()[0])[0].raw["grounding"]
    assert len(set(llm.prompts)) == 3
    assert [attempt["change"] for attempt in report["attempts"]] == ["", *["asked to look again"] * 2]

    class Warm(type(llm)):  # type: ignore[misc]
        """Notes at which temperature it answers."""

        temperature: float = 0.1
        temperatures: list[float]

        def stream_complete(self, prompt: str, formatted: bool = False, **settings: Any) -> Any:
            self.temperatures.append(self.temperature)
            return super().stream_complete(prompt, formatted, **settings)

    warm = Warm(texts=[BAD, GOOD], prompts=[], temperatures=[])
    report = run(GroundedReActAgent(llm=warm, tools=[], policy=never), ask()[0])[0].raw["grounding"]
    assert warm.temperatures == [0.1, 0.7]
    assert report["attempts"][1]["change"] == "sampled again at temperature 0.7"
    assert len(set(warm.prompts)) == 1


def test_react_calls_tools_unguarded_and_answers_guarded(says: Any, ask: Ask) -> None:
    action = 'Thought: I need a tool.\nAction: look\nAction Input: {"a": 1}'.replace('{"a": 1}', "{}")
    output, _, memory = run(GroundedReActAgent(llm=says(action, BAD, GOOD), tools=[look], policy=RETRY), ask()[0])
    assert str(output) == "There is a cup."
    assert [call.tool_name for call in output.tool_calls] == ["look"]
    assert "a table" in str(memory.get()[-1])


@pytest.mark.parametrize("kind", [GroundedReActAgent, GroundedFunctionAgent])
def test_a_fallback_text_replaces_the_answer_everywhere(
    says: Any, caller: SaliencyGuardedLVLM, ask: Ask, kind: Any
) -> None:
    unsure = GuardPolicy(min_grounding=1.0, on_low="fallback", fallback=lambda messages, attempts: "I cannot tell.")
    agent = kind(llm=says(BAD) if kind is GroundedReActAgent else caller, tools=[], policy=unsure)
    output, streamed, memory = run(agent, ask()[0])
    assert str(output) == streamed == "I cannot tell."
    assert output.raw["grounding"]["decision"] == "fallback"
    said = str(memory.get()[-1])
    assert "I cannot tell." in said
    assert "zebra" not in said
    assert "cup" not in said


def test_a_fallback_model_is_asked(says: Any, ask: Ask) -> None:
    agent = GroundedReActAgent(llm=says(BAD), tools=[], policy=GuardPolicy(min_grounding=0.5), fallback_llm=says(GOOD))
    output, _, _ = run(agent, ask()[0])
    assert (str(output), output.raw["grounding"]["decision"]) == ("There is a cup.", "fallback")


def test_an_empty_answer_is_drawn_anew(caller: SaliencyGuardedLVLM, ask: Ask) -> None:
    silent = caller.model_copy(update={"stop": list(string.ascii_uppercase)})  # Its first letter.
    policy = GuardPolicy(min_grounding=0.0, on_low="fallback", fallback=lambda messages, attempts: "I cannot tell.")
    output, streamed, _ = run(GroundedFunctionAgent(llm=silent, tools=[], policy=policy), ask()[0])
    assert str(output) == streamed == "I cannot tell."
    assert output.raw["grounding"]["attempts"][0]["reason"] == "the answer is empty"


def test_flag_and_raise(says: Any, ask: Ask) -> None:
    output, _, _ = run(GroundedReActAgent(llm=says(BAD), tools=[], policy=GuardPolicy(min_grounding=0.5)), ask()[0])
    assert (str(output), output.raw["grounding"]["decision"]) == ("There is a zebra.", "flagged")
    strict = GroundedReActAgent(llm=says(BAD), tools=[], policy=GuardPolicy(min_grounding=0.5, on_low="raise"))
    with pytest.raises(LowGroundingError):
        run(strict, ask()[0])


def test_chats_without_a_picture_pass(says: Any) -> None:
    output, streamed, _ = run(GroundedReActAgent(llm=says(BAD), tools=[], policy=RETRY), ChatMessage("What is there?"))
    assert str(output) == "There is a zebra."
    assert output.raw["grounding"]["decision"] == "not_applicable"
    assert "zebra" in streamed


def test_a_second_turn_still_sees_the_picture(caller: SaliencyGuardedLVLM, ask: Ask) -> None:
    agent = GroundedFunctionAgent(llm=caller, tools=[], policy=GuardPolicy(min_grounding=0.5))
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)

    async def turns() -> AgentOutput:
        await agent.run(user_msg=ask()[0], memory=memory)
        return await agent.run(user_msg="Is there a cat in the image?", memory=memory)

    output = asyncio.run(turns())
    assert output.raw["grounding"]["decision"] is not None
    assert "image_0" in output.raw["grounding"]["shares"]


def test_pictures_of_tools_count(caller: SaliencyGuardedLVLM) -> None:
    from llama_index.core.tools import FunctionTool

    def photo() -> ImageBlock:
        """Take a picture."""
        return ImageBlock(path=Path(__file__).parents[3] / "examples" / "desk.png")

    agent = GroundedFunctionAgent(
        llm=caller,
        tools=[FunctionTool.from_defaults(photo)],
        initial_tool_choice="photo",
        policy=GuardPolicy(min_grounding=0.0),
    )
    output, _, _ = run(agent, ChatMessage(blocks=[TextBlock(text=DESCRIBE)]))
    assert [call.tool_name for call in output.tool_calls] == ["photo"]
    assert "image_0" in output.raw["grounding"]["shares"]


def test_a_repaired_answer_is_what_is_left_everywhere(says: Any, ask: Ask) -> None:
    repairs = GuardPolicy(min_grounding=0.5, on_low="repair")
    agent = GroundedReActAgent(llm=says(THOUGHT + "There is a zebra. There is a cup."), tools=[], policy=repairs)

    async def ran() -> tuple[AgentOutput, list[Any]]:
        handler = agent.run(user_msg=ask()[0])
        events = [event async for event in handler.stream_events()]
        return await handler, events

    output, events = asyncio.run(ran())
    assert (str(output), output.raw["grounding"]["decision"]) == ("There is a cup.", "repaired")
    assert "zebra" not in repr(events) + repr(output.raw)


def test_agents_that_write_code_are_refused() -> None:
    with pytest.raises(ConfigError, match="CodeActAgent"):
        type("Coder", (GroundedAgentMixin, CodeActAgent), {})
