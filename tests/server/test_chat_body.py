from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from saliency_guard import ConfigError, LocoREConfig, SaliencyConfig, SGRSConfig
from saliency_guard.server.chat_body import ChatBody, ChatCall, chat_call
from saliency_guard.server.errors import RequestError
from saliency_guard.server.settings import ServerSettings

MESSAGES = [{"role": "user", "content": "Hello."}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def call(settings: ServerSettings, **options: Any) -> ChatCall:
    return chat_call(ChatBody.model_validate({"messages": MESSAGES, **options}), settings)


def test_the_defaults_are_those_of_the_package(settings: ServerSettings) -> None:
    made = call(settings)
    options = made.request.generation
    assert (options["max_new_tokens"], options["temperature"], options["seed"]) == (128, 0.0, None)
    assert options["saliency"] == SaliencyConfig()
    assert options["sgrs"] is options["locore"] is None
    assert made.request.policy is None
    assert (made.choices, made.stream, made.logprobs, made.report, made.timeout) == (1, False, False, "summary", 300.0)


def test_options_of_openai_and_of_other_servers(settings: ServerSettings) -> None:
    made = call(
        settings,
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        repetition_penalty=1.1,
        seed=3,
        stop=["a", "b"],
        sgrs=True,
        locore={"beta": 0.3},
        signals=["entropy"],
        timeout=9,
        n=2,
    )
    options = made.request.generation
    assert (options["max_new_tokens"], options["temperature"], options["top_p"]) == (7, 0.5, 0.9)
    assert (options["top_k"], options["repetition_penalty"], options["seed"]) == (3, 1.1, 3)
    assert options["stop"] == ("a", "b")
    assert options["sgrs"] == SGRSConfig()
    assert options["locore"] == LocoREConfig(beta=0.3)
    assert options["signals"] == ["entropy"]
    assert made.timeout == 9
    assert options["timeout"] is None  # It is kept around the whole request.
    assert call(settings, max_tokens=7, max_completion_tokens=5).request.generation["max_new_tokens"] == 5
    assert call(settings, timeout=1000).timeout == 300.0


def test_what_clients_always_send_is_ignored(settings: ServerSettings) -> None:
    ignored: dict[str, Any] = {
        "user": "me",
        "metadata": {"a": "b"},
        "safety_identifier": "x",
        "service_tier": "auto",
        "prompt_cache_key": "x",
        "store": False,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "modalities": ["text"],
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "tool_choice": "auto",
    }
    assert call(settings, **ignored) == call(settings)


@pytest.mark.parametrize(
    "given",
    [
        {"audio": {}},
        {"functions": []},
        {"logit_bias": {"1": 2}},
        {"frequency_penalty": 0.1},
        {"presence_penalty": -0.1},
        {"modalities": ["audio"]},
        {"store": True},
        {"reasoning_effort": "high"},
        {"prediction": {}},
        {"max_tokens": "7"},
        {"max_tokens": True},
        {"temperature": "hot"},
        {"n": 0},
        {"n": 1.5},
        {"stream": 1},
        {"stop": ["x"] * 17},
        {"stop": "x" * 1001},
        {"top_logprobs": 21},
        {"stream_options": {"include": True}},
        {"messages": []},
        {"messages": "hello"},
        {"grounding_report": "all"},
        {"timeout": 0},
    ],
)
def test_what_would_change_an_answer_and_is_not_known_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatBody.model_validate({"messages": MESSAGES, **given})


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"n": 9}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {}}, "stream_options"),
        ({"seed": 2**63}, "seed"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": "x" * 10**5}}}},
            "response_format",
        ),
        ({"grounding_report": "full"}, "grounding_report"),
        ({"grounding_policy": {"min_grounding": 2}}, "grounding_policy"),
        ({"logprobs": True, "top_logprobs": 2, "grounding_policy": {"min_grounding": 0.5}}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 2, "response_format": {"type": "json_object"}}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 2, "repetition_penalty": 1.2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 2, "sgrs": True}, "top_logprobs"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    settings: ServerSettings, given: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as raised:
        call(settings, **given)
    assert raised.value.status == 400
    assert raised.value.param == param


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"max_tokens": 0},
        {"sgrs": {"alpha": 7}},
        {"sgrs": {"unknown": 7}},
        {"signals": ["unknown"]},
        {"tools": [{"type": "function"}]},
        {"tools": [TOOL], "tool_choice": "other"},
        {"response_format": {"type": "json_schema"}},
    ],
)
def test_what_the_core_refuses_is_refused(settings: ServerSettings, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        call(settings, **given)


def test_tokens_are_sent_as_they_are_written_only_where_nothing_decides_on_them(settings: ServerSettings) -> None:
    assert call(settings, stream=True).live
    assert not call(settings).live
    assert not call(settings, stream=True, tools=[TOOL]).live
    assert not call(settings, stream=True, tools=[TOOL], tool_choice="required").live
    assert call(settings, stream=True, tools=[TOOL], tool_choice="none").live
    assert not call(settings, stream=True, grounding_policy={"min_grounding": 0.5}).live


def test_tools_and_schemas(settings: ServerSettings) -> None:
    forced = call(settings, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}})
    assert [tool["function"]["name"] for tool in forced.request.forced] == ["look"]
    assert forced.request.generation["json_schema"] is not None
    free = call(settings, tools=[TOOL], parallel_tool_calls=False)
    assert (len(free.request.tools), free.request.forced, free.single_call) == (1, [], True)
    schema = {"type": "object", "properties": {}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert call(settings, response_format=wanted).request.generation["json_schema"] == {
        **schema,
        "additionalProperties": False,
    }
    anything = call(settings, response_format={"type": "json_object"})
    assert anything.request.generation["json_schema"] == {"type": "object"}
