"""Tools in conversations: what a template is told, and what is read out of an answer."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from PIL import Image

from saliency_guard import LVLM, ConfigError, InputError, MessageError
from saliency_guard.chat.limits import MAX_TEXT, MAX_TOOLS
from saliency_guard.chat.tools import (
    ParsedAnswer,
    ToolCall,
    call_schema,
    checked_tools,
    merge_runs,
    parse_tool_calls,
    read_calls,
    requested_schema,
    required_tools,
    takes_tools,
)

CALL = {"name": "look", "arguments": {"where": "left", "times": 2}}
LOOK = ToolCall("look", {"where": "left", "times": 2})
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look somewhere.",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    },
}
# The embedded model's template, with a line on tools as many models have it.
WITH_TOOLS = "{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"Let me see. <tool_call>\n{json.dumps(CALL)}\n</tool_call>", ParsedAnswer("Let me see.", (LOOK,))),
        (f"<tool_call>{json.dumps(CALL)}</tool_call><tool_call>{json.dumps(CALL)}", ParsedAnswer("", (LOOK, LOOK))),
        (f"[TOOL_CALLS] [{json.dumps(CALL)}]</s>", ParsedAnswer("", (LOOK,))),
        (
            f"<|python_tag|>{json.dumps({'name': 'look', 'parameters': CALL['arguments']})}<|eom_id|>",
            ParsedAnswer("", (LOOK,)),
        ),
        (json.dumps(CALL), ParsedAnswer("", (LOOK,))),
        ("There is a cat.", ParsedAnswer("There is a cat.")),
        ('{"count": 3}', ParsedAnswer('{"count": 3}')),
        ("<tool_call>look left</tool_call>", ParsedAnswer("", (), ("look left",))),
        (
            '<tool_call>{"name": "look", "arguments": "left"}',
            ParsedAnswer("", (), ('{"name": "look", "arguments": "left"}',)),
        ),
    ],
)
def test_calls_are_read_in_the_forms_models_write(text: str, wanted: ParsedAnswer) -> None:
    assert parse_tool_calls(text) == wanted


def history(picture: Image.Image) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is on the picture?"}]},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
        {
            "role": "tool",
            "name": "look",
            "content": [{"type": "text", "text": "Here:"}, {"type": "image", "image": picture}],
        },
        {"role": "user", "content": "And now?"},
    ]


def prompt(lvlm: LVLM, messages: Any) -> str:
    text: str = lvlm.tokenizer.decode(lvlm.inputs(messages)["input_ids"][0])
    return text


def test_a_template_without_tools_is_told_in_words(lvlm: LVLM, picture: Image.Image) -> None:
    assert not takes_tools(lvlm.processor)
    told = prompt(lvlm, history(picture))
    assert f"<tool_call>{json.dumps(CALL)}</tool_call>" in told
    assert "USER: Result of look: Here:" in told
    for messages in (history(picture), history(picture)[1:]):
        prompted = prompt(lvlm.with_tools([TOOL]), messages)
        assert prompted.index("Look somewhere.") < prompted.index("What is on the picture?")
        assert prompted.count("<tool_call>") == 2


def with_template(lvlm: LVLM, template: str) -> LVLM:
    processor = copy.copy(lvlm.processor)
    processor.chat_template = template
    return LVLM(lvlm.model, processor)


def test_a_template_with_tools_is_told_of_them(lvlm: LVLM, picture: Image.Image) -> None:
    able = with_template(lvlm, WITH_TOOLS + lvlm.processor.chat_template)
    assert takes_tools(able.processor)
    assert "Look somewhere." in prompt(able.with_tools([TOOL]), history(picture))
    assert "Look somewhere." not in prompt(able, history(picture))
    assert "Look somewhere." not in prompt(able.with_tools([TOOL]).with_tools([]), history(picture))


STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


def test_roles_that_must_alternate_are_merged(lvlm: LVLM, picture: Image.Image) -> None:
    strict = with_template(lvlm, STRICT + lvlm.processor.chat_template)
    twice = [
        {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "Is there a cat?"}]},
        {"role": "user", "content": "Or a dog?"},
    ]
    assert "Is there a cat?\nOr a dog?" in prompt(strict, twice)
    assert "Is there a cat?\nUSER: Or a dog?" in prompt(lvlm, twice)
    with pytest.raises(InputError, match="roles must alternate"):
        prompt(strict, [{"role": "assistant", "content": "Hm."}, *twice[:1]])


def test_merging_keeps_calls_and_lets_results_be() -> None:
    text = {"type": "text", "text": "a"}
    calls = [{"role": "assistant", "content": [text], "tool_calls": [item]} for item in (1, 2)]
    results = [{"role": "tool", "content": [text], "tool_call_id": item} for item in ("1", "2")]
    merged = merge_runs([*calls, *results])
    assert [item["role"] for item in merged] == ["assistant", "tool", "tool"]
    assert merged[0]["tool_calls"] == [1, 2]
    assert [part["text"] for part in merged[0]["content"]] == ["a", "\n", "a"]


OTHER = {"type": "function", "function": {"name": "go"}}


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (None, []),
        ("auto", []),
        ("none", []),
        (False, []),
        (True, [TOOL, OTHER]),
        ("any", [TOOL, OTHER]),
        ("required", [TOOL, OTHER]),
        ("go", [OTHER]),
        ({"type": "function", "function": {"name": "look"}}, [TOOL]),
        ({"type": "any"}, [TOOL, OTHER]),
    ],
)
def test_tool_choices(choice: Any, wanted: list[dict[str, Any]]) -> None:
    assert required_tools([TOOL, OTHER], choice) == wanted


def test_a_tool_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="look, go"):
        required_tools([TOOL, OTHER], "stay")


def test_schema_of_a_call() -> None:
    one = call_schema([TOOL])
    assert one["properties"]["name"] == {"const": "look"}
    assert one["properties"]["arguments"]["additionalProperties"] is False
    assert [each["properties"]["name"]["const"] for each in call_schema([TOOL, OTHER])["anyOf"]] == ["look", "go"]


def test_calls_of_an_answer(lvlm: LVLM) -> None:
    text = f"<tool_call>{json.dumps(CALL)}</tool_call>"
    ids = lvlm.tokenizer.encode(text, add_special_tokens=False)
    assert read_calls(text, ids, lvlm.tokenizer, was_forced=False).calls == (LOOK,)
    assert read_calls(json.dumps(CALL), [], lvlm.tokenizer, was_forced=True).calls == (LOOK,)
    assert read_calls('{"name": "lo', [], lvlm.tokenizer, was_forced=True).malformed == ('{"name": "lo',)
    words = lvlm.tokenizer.encode("A cat.", add_special_tokens=False)
    assert read_calls("A cat.", words, lvlm.tokenizer, was_forced=False) == ParsedAnswer("A cat.")


def test_functions_alone_are_tools() -> None:
    assert checked_tools([TOOL, OTHER["function"]]) == (TOOL, OTHER)
    assert checked_tools([]) == ()


DEEP: Any = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("tools", "complaint"),
    [
        (None, "must be a list"),
        ("look", "must be a list"),
        (TOOL, "must be a list"),
        (7, "must be a list"),
        ([None], "tool 0"),
        (["look"], "tool 0"),
        ([TOOL, 7], "tool 1"),
        ([len], "tool 0"),
        ([{}], "tool 0"),
        ([{"type": "web_search"}], "tool 0"),
        ([{"function": None}], "tool 0"),
        ([{"function": "look"}], "tool 0"),
        ([{"function": {"name": None}}], "tool 0"),
        ([{"function": {"name": 7}}], "tool 0"),
        ([{"function": {"name": "look", "description": 7}}], "description"),
        ([{"function": {"name": "look", "parameters": "x"}}], "parameters"),
        ([{"function": {"name": "look", "parameters": {"a": {1: 2}}}}], "keys are texts"),
        ([{"function": {"name": "look", "parameters": {"a": object()}}}], "JSON cannot say"),
        ([{"function": {"name": "look", "parameters": {"a": 10**5000}}}], "JSON cannot say"),
        ([{"function": {"name": "look", "parameters": DEEP}}], "too much"),
        ([{"function": {"name": "look", "description": "\ud800"}}], "UTF-8"),
        ([{"function": {"name": "look", "description": "x" * (MAX_TEXT + 1)}}], "characters"),
        ([TOOL] * (MAX_TOOLS + 1), "at most"),
    ],
    ids=range(23),
)
def test_what_is_no_tool_is_refused(tools: Any, complaint: str, lvlm: LVLM) -> None:
    with pytest.raises(ConfigError, match=complaint):
        checked_tools(tools)
    with pytest.raises(ConfigError, match=complaint):
        lvlm.with_tools(tools)
    with pytest.raises(ConfigError, match=complaint):
        required_tools(tools, None)


@pytest.mark.parametrize(
    "choice",
    [7, 1.5, ["look"], {}, {"function": "look"}, {"function": {"name": 7}}, {"type": 7}, b"look", object(), DEEP],
    ids=range(10),
)
def test_what_is_no_choice_is_refused(choice: Any) -> None:
    with pytest.raises(ConfigError, match="tool_choice"):
        required_tools([TOOL], choice)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>" + "[" * 100_000,
        '<tool_call>{"name": "look", "arguments": ' + '{"a": ' * 100_000,
        '<tool_call>{"name": "look", "arguments": {"a": ' + "1" * 5000 + "}}",
    ],
    ids=range(3),
)
def test_what_a_model_writes_is_never_a_raw_error(text: str) -> None:
    assert parse_tool_calls(text).malformed == (text.removeprefix("<tool_call>").strip(),)


@pytest.mark.parametrize("given", [None, 7, "x", {"schema": 7}, {"type": "json_schema"}, {"schema": None}])
def test_what_is_no_response_format_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="response_format"):
        requested_schema({"type": "json_schema", "json_schema": given})


def test_a_response_format_asks_for_a_schema_or_for_none() -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}}
    assert requested_schema({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}) == schema
    assert requested_schema({"type": "json_object"}) == {"type": "object"}
    assert requested_schema({"type": "text"}) is None
    for unchanged in (None, schema, int):
        assert requested_schema(unchanged) is unchanged


def test_calls_of_any_form_reach_no_template(lvlm: LVLM, picture: Image.Image) -> None:
    for wrong in (7, [{"function": {"name": "look", "arguments": 7}}], [{"function": {"arguments": {}}}], [None]):
        messages = history(picture)
        messages[2]["tool_calls"] = wrong
        with pytest.raises(MessageError):
            prompt(lvlm, messages)
