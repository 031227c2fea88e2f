"""Structured answers: they follow their schema, and their fields are judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from llama_index.llms.saliency_guard import GroundingScoreEvent, SaliencyGuardedLVLM, collect_grounding
from saliency_guard import LVLM, ConfigError, GuardPolicy, LowGroundingError, SignalRule

Ask = Callable[..., list[ChatMessage]]


def names(heard: list[Any]) -> list[str]:
    return [event.class_name() for event in heard if "InProgress" not in event.class_name()]


def test_the_verdict_on_an_object_is_in_the_event(llm: SaliencyGuardedLVLM, ask: Ask, heard: list[Any]) -> None:
    refuses = GuardPolicy(rules=(SignalRule("logprob", below=1.0),))  # Every token breaks it.
    prompt = PromptTemplate("Describe {what}.")
    flags = llm.model_copy(update={"policy": refuses})
    with collect_grounding() as collector:
        assert isinstance(flags.structured_predict(Scene, prompt, what="it"), Scene)
    decisions = [event.report["decision"] for event in heard if isinstance(event, GroundingScoreEvent)]
    assert decisions == [report["decision"] for report in collector.reports] == ["flagged"]
    assert flags.chat(ask(), json_schema=Scene).raw["grounding"]["decision"] == "flagged"
    strict = llm.model_copy(update={"policy": refuses.model_copy(update={"on_low": "raise"})})
    with pytest.raises(LowGroundingError):
        strict.structured_predict(Scene, prompt, what="it")
    with pytest.raises(LowGroundingError):
        strict.as_structured_llm(Scene).chat(ask())


class Scene(BaseModel):
    """What is there."""

    caption: str
    people: int


class Seen(BaseModel):
    """What is there."""

    what: str


@pytest.mark.parametrize(
    ("what", "decision"),
    [("There is a cup.", "accepted"), ("There is an elephant.", "flagged"), ("left", "unscored")],
)
def test_fields_are_judged_under_the_llm_s_own_policy(
    llm: SaliencyGuardedLVLM,
    ask: Ask,
    heard: list[Any],
    writes: Any,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    decision: str,
) -> None:
    generate: Any = LVLM.generate

    def put(text: str) -> None:
        def written(self: LVLM, messages: Any, **settings: Any) -> Any:
            return generate(self, messages, **{**settings, "logits_processor": writes(text)})

        monkeypatch.setattr(LVLM, "generate", written)

    policy = GuardPolicy(min_grounding=0.5)
    guarded = llm.model_copy(update={"policy": policy})
    prompt = ChatPromptTemplate(message_templates=ask())
    put(json.dumps({"what": what}))
    assert guarded.as_structured_llm(Seen).chat(ask()).raw == Seen(what=what)
    assert guarded.structured_predict(Seen, prompt) == Seen(what=what)
    assert list(guarded.stream_structured_predict(Seen, prompt)) == [
        Seen(what=what)
    ]  # No part of it before it is judged.
    strict = llm.model_copy(update={"policy": policy.model_copy(update={"on_low": "raise", "unscored": "raise"})})
    if decision != "accepted":
        with pytest.raises(LowGroundingError):
            next(strict.stream_structured_predict(Seen, prompt))
    put(json.dumps({"name": "seen", "arguments": {"what": what}}))
    tool = FunctionTool.from_defaults(lambda what: what, name="seen", fn_schema=Seen)
    response = guarded.chat_with_tools([tool], chat_history=ask(), tool_required=True)
    assert guarded.get_tool_calls_from_response(response)[0].tool_kwargs == {"what": what}
    told = [event.report["decision"] for event in heard if isinstance(event, GroundingScoreEvent)]
    assert [each for each in told if each != "raised"] == [decision] * 4


def test_objects(llm: SaliencyGuardedLVLM, ask: Ask, heard: list[Any]) -> None:
    prompt = PromptTemplate("Describe {what}.")
    found = llm.structured_predict(Scene, prompt, what="it")
    assert isinstance(found, Scene)
    assert names(heard)[0] == "LLMStructuredPredictStartEvent"
    assert names(heard)[-1] == "LLMStructuredPredictEndEvent"
    assert asyncio.run(llm.astructured_predict(Scene, prompt, what="it")) == found
    assert list(llm.stream_structured_predict(Scene, prompt, what="it")) == [found]
    structured = llm.as_structured_llm(Scene).chat(ask())
    assert isinstance(structured.raw, Scene)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        llm.structured_predict(Scene, prompt, llm_kwargs={"max_tokens": 3}, what="it")
    schema = {"type": "json_schema", "json_schema": {"schema": Scene.model_json_schema()}}
    assert Scene.model_validate_json(str(llm.chat(ask(), response_format=schema).message.content))
    with pytest.raises(ConfigError, match="schema"):
        llm.chat(ask(), json_schema=7)
