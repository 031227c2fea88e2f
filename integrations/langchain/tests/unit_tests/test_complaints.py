"""What users complain of in other integrations of local models, one test each: this one does not have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import LVLM
from saliency_guard.embedded import EMBEDDED_PATH


async def test_local_models_work_asynchronously(model: SaliencyGuardedLVLM, ask: Any) -> None:
    message = await model.ainvoke([ask()])
    assert "".join([str(chunk.content) async for chunk in model.astream([ask()])]) == message.content != ""


def test_tools_reach_the_prompt(model: SaliencyGuardedLVLM, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    original = LVLM.generate

    def listened(self: LVLM, messages: Any, **settings: Any) -> Any:
        prompts.append(self.tokenizer.decode(self.prepare(messages).inputs["input_ids"][0]))
        return original(self, messages, **settings)

    monkeypatch.setattr(LVLM, "generate", listened)
    model.bind_tools([{"name": "get_weather", "description": "The weather there.", "parameters": {}}]).invoke([ask()])
    assert "get_weather" in prompts[0]
    assert "The weather there." in prompts[0]


class Seen(BaseModel):
    """What is seen."""

    thing: str


def test_pydantic_structured_output_is_there(model: SaliencyGuardedLVLM, ask: Any) -> None:
    assert isinstance(model.with_structured_output(Seen).invoke([ask()]), Seen)


def test_the_prompt_is_not_echoed(model: SaliencyGuardedLVLM, ask: Any) -> None:
    text = str(model.invoke([ask("Is there a cup in the image?")]).content)
    assert "Is there" not in text
    assert "USER" not in text
    assert "ASSISTANT" not in text


def test_images_are_seen_and_not_written_out(model: SaliencyGuardedLVLM, ask: Any) -> None:
    message = model.invoke([ask()])
    assert message.usage_metadata is not None
    assert message.usage_metadata["input_tokens"] < 200
    assert message.response_metadata["grounding"]["shares"]["image_0"] > 0.2


def test_limits_and_stops_are_kept(model: SaliencyGuardedLVLM, ask: Any) -> None:
    short = SaliencyGuardedLVLM(max_tokens=4).invoke([ask()])
    assert short.usage_metadata is not None
    assert short.usage_metadata["output_tokens"] == 4
    assert "," not in str(model.invoke([ask()], stop=[","]).content)


def test_usage_is_counted(model: SaliencyGuardedLVLM, ask: Any) -> None:
    used = model.invoke([ask()]).usage_metadata
    assert used is not None
    assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"] > 0


def test_histories_may_end_with_a_tool_s_message(model: SaliencyGuardedLVLM, ask: Any) -> None:
    call = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
    assert model.invoke([ask(), AIMessage("", tool_calls=[call]), ToolMessage("A cup.", tool_call_id="1")]).content
    assert model.invoke([HumanMessage("Hello"), AIMessage("Hello")]).response_metadata["finish_reason"]


def test_a_local_folder_needs_no_network(ask: Any, b64: str) -> None:
    folder = SaliencyGuardedLVLM(model=str(Path(EMBEDDED_PATH)))
    assert folder.invoke([ask()]).content == SaliencyGuardedLVLM().invoke([ask()]).content
