"""Tools and structured answers: they reach the prompt, and what the model writes is read."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from forced_text import Writes
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage
from message_checks import Heard, whole
from pydantic import BaseModel

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import LVLM, ConfigError, GuardPolicy, LowGroundingError, SignalRule, Step


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


def look(where: str) -> str:
    """Look somewhere.

    Args:
        where: left or right.
    """
    return where


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_structured_answers_are_scored_too(model: SaliencyGuardedLVLM, ask: Any, method: Any) -> None:
    both: Any = model.with_structured_output(Joke, method=method, include_raw=True).invoke([ask("Tell me a joke.")])
    assert isinstance(both["parsed"], Joke)
    assert both["parsing_error"] is None
    assert both["raw"].response_metadata["grounding"]["shares"]
    assert isinstance(model.with_structured_output(Joke, method=method).invoke([ask("Tell me a joke.")]), Joke)
    assert set(
        model.with_structured_output(Joke.model_json_schema(), method="json_schema").invoke([ask("Tell me a joke.")])
    ) == {
        "setup",
        "punchline",
    }


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_the_verdict_on_a_structured_answer_is_in_raw_and_in_the_event(ask: Any, method: Any) -> None:
    refuses = GuardPolicy(rules=(SignalRule("logprob", below=1.0),))  # Every token breaks it.
    structured: Any = SaliencyGuardedLVLM(policy=refuses).with_structured_output
    report = (
        structured(Joke, method=method, include_raw=True)
        .invoke([ask("Tell me a joke.")])["raw"]
        .response_metadata["grounding"]
    )
    assert report["decision"] == "flagged"
    heard = Heard()
    bare = structured(Joke, method=method).invoke([ask("Tell me a joke.")], config={"callbacks": [heard]})
    assert isinstance(bare, Joke)
    assert [report["decision"] for report in heard.of("report")] == ["flagged"]
    strict: Any = SaliencyGuardedLVLM(policy=refuses.model_copy(update={"on_low": "raise"})).with_structured_output
    for include_raw in (False, True):
        with pytest.raises(LowGroundingError):
            strict(Joke, method=method, include_raw=include_raw).invoke([ask("Tell me a joke.")])


def test_a_forced_call_is_a_call(model: SaliencyGuardedLVLM, ask: Any) -> None:
    named = ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}, {"type": "any"})
    for choice in ("any", "required", True, "look", *named):
        message = model.bind_tools([look, Joke], tool_choice=choice).invoke([ask()])
        (call,) = message.tool_calls
        assert call["name"] in {"look", "Joke"}
        assert call["id"]
        assert message.response_metadata["finish_reason"] == "tool_calls"
        assert message.response_metadata["grounding"]["shares"]
    streamed = whole(list(model.bind_tools([look], tool_choice="any").stream([ask()])))
    assert [call["name"] for call in streamed.tool_calls] == ["look"]
    with pytest.raises(ConfigError, match="none of the tools"):
        model.bind_tools([look], tool_choice="listen").invoke([ask()])


def test_tools_reach_the_prompt(model: SaliencyGuardedLVLM, ask: Any) -> None:
    plain = model.invoke([ask()])
    told = model.bind_tools([look]).invoke([ask()])
    assert told.usage_metadata is not None
    assert plain.usage_metadata is not None
    assert told.usage_metadata["input_tokens"] > plain.usage_metadata["input_tokens"] + 20


def test_a_model_whose_template_takes_tools_is_told_by_it(lvlm: LVLM, ask: Any) -> None:
    processor = copy.copy(lvlm.processor)
    processor.chat_template = "{% if tools %}TOOLS {{ tools | tojson }}{% endif %}" + lvlm.processor.chat_template
    able = LVLM(lvlm.model, processor, require_image=False)
    plain = SaliencyGuardedLVLM(lvlm=able).invoke([ask()])
    told = SaliencyGuardedLVLM(lvlm=able).bind_tools([look]).invoke([ask()])
    assert plain.usage_metadata is not None
    assert told.usage_metadata is not None
    assert told.usage_metadata["input_tokens"] > plain.usage_metadata["input_tokens"] + 20


@pytest.mark.parametrize(
    ("written", "calls", "invalid"),
    [
        ('<tool_call>{"name": "look", "arguments": {"where": "left"}}</tool_call>', 1, 0),
        ("<tool_call>look left</tool_call>", 0, 1),
        ('<tool_call>{"name": "look", "arguments": {"where": "le</tool_call>', 0, 1),
        (
            (
                '<tool_call>{"name": "look", "arguments": {"where": "left"}}</tool_call>'
                '<tool_call>{"name": "look", "arguments": {"wh</tool_call>'
            ),
            1,
            1,
        ),
        ("There is a cup.", 0, 0),
    ],
)
def test_calls_are_read_out_of_answers(
    lvlm: LVLM, ask: Any, monkeypatch: pytest.MonkeyPatch, written: str, calls: int, invalid: int
) -> None:
    """The embedded model never calls a tool by itself: its answer is put in its mouth."""

    def said(self: LVLM, messages: Any, **settings: Any) -> Any:
        answer = lvlm.score(messages, written)
        yield from (Step(token=token) for token in answer.tokens)
        yield Step(answer=answer)

    monkeypatch.setattr(LVLM, "stream", said)
    monkeypatch.setattr(LVLM, "generate", lambda _, messages, **__: lvlm.score(messages, written))
    model = SaliencyGuardedLVLM().bind_tools([look])
    message = model.invoke([ask()])
    assert len(message.tool_calls) == calls
    assert len(message.invalid_tool_calls) == invalid
    streamed = whole(list(model.stream([ask()])))
    assert [call["args"] for call in streamed.tool_calls] == [call["args"] for call in message.tool_calls]
    assert [call["name"] for call in message.tool_calls] == ["look"] * calls
    assert len(streamed.invalid_tool_calls) == invalid
    assert message.content == ("" if calls or invalid else written)


class Seen(BaseModel):
    """What is there."""

    what: str


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the model write a text, however it is called."""
    generate: Any = LVLM.generate

    def put(text: str) -> None:
        def written(self: LVLM, messages: Any, **settings: Any) -> Any:
            return generate(self, messages, **{**settings, "logits_processor": Writes(self.tokenizer, text)})

        monkeypatch.setattr(LVLM, "generate", written)

    return put


WHATS = [("There is a cup.", "accepted"), ("There is an elephant.", "flagged"), ("left", "unscored")]
POLICY = GuardPolicy(min_grounding=0.5)


def as_call(what: str) -> str:
    return json.dumps({"name": "Seen", "arguments": {"what": what}})


def as_object(what: str) -> str:
    return json.dumps({"what": what})


@pytest.mark.parametrize(("what", "decision"), WHATS)
@pytest.mark.parametrize(("method", "text"), [("json_schema", as_object), ("function_calling", as_call)])
def test_fields_are_judged_under_the_model_s_own_policy(
    ask: Any, writes: Any, method: Any, text: Any, what: str, decision: str
) -> None:
    writes(text(what))
    structured: Any = SaliencyGuardedLVLM(policy=POLICY).with_structured_output(Seen, method=method, include_raw=True)
    both = structured.invoke([ask()])
    assert both["parsed"] == Seen(what=what)
    report = both["raw"].response_metadata["grounding"]
    assert report["decision"] == decision
    claims = {"accepted": ["cup"], "flagged": ["elephant"], "unscored": ["left"]}
    assert [claim["text"] for claim in report["claims"]] == claims[decision]


@pytest.mark.parametrize(("what", "decision"), WHATS)
@pytest.mark.parametrize(("strategy", "text"), [(ToolStrategy, as_call), (ProviderStrategy, as_object)])
def test_fields_are_judged_in_agents_of_a_model_with_a_policy(
    ask: Any, writes: Any, strategy: Any, text: Any, what: str, decision: str
) -> None:
    writes(text(what))
    agent: Any = create_agent(SaliencyGuardedLVLM(policy=POLICY), tools=[], response_format=strategy(Seen))
    state = agent.invoke({"messages": [ask()]})
    assert state["structured_response"] == Seen(what=what)
    (report,) = [part.response_metadata["grounding"] for part in state["messages"] if isinstance(part, AIMessage)]
    assert report["decision"] == decision


def test_arguments_are_judged_under_the_model_s_own_policy(ask: Any, writes: Any) -> None:
    model = SaliencyGuardedLVLM(policy=POLICY).bind_tools([look])
    for arguments, decision in (
        ({"where": "There is a cup."}, "accepted"),
        ({"where": "There is an elephant."}, "flagged"),
        ({}, "not_applicable"),
    ):
        call = {"name": "look", "arguments": arguments}
        writes(f"<tool_call>{json.dumps(call)}</tool_call>")
        message = model.invoke([ask()])
        assert [call["args"] for call in message.tool_calls] == [arguments]
        assert message.response_metadata["grounding"]["decision"] == decision
        assert message.usage_metadata is not None
        assert message.usage_metadata["output_tokens"] > 0
    writes("There is a cup.")
    message = model.invoke([ask()])
    assert (message.text, message.response_metadata["grounding"]["decision"]) == ("There is a cup.", "accepted")


def test_without_a_policy_calls_and_objects_have_no_number(ask: Any, writes: Any) -> None:
    model = SaliencyGuardedLVLM()
    writes(as_object("There is a cup."))
    both: Any = model.with_structured_output(Seen, method="json_schema", include_raw=True)
    reports = [both.invoke([ask()])["raw"].response_metadata["grounding"]]
    writes(f"<tool_call>{as_call('There is a cup.')}</tool_call>")
    reports.append(model.bind_tools([look]).invoke([ask()]).response_metadata["grounding"])
    for report in reports:
        assert (report["score"], report["calibrated"]) == (None, False)
        assert "JSON or a tool call" in report["reason"]
