"""Tools in a conversation: how a chat template is told of them, and how the calls are read out of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saliency_guard.chat.limits import MAX_TOOLS, Budget
from saliency_guard.errors import ConfigError, MessageError, SaliencyGuardError, shown

Tool = Mapping[str, Any]
"""A function as a JSON schema, the form that transformers' chat templates take."""

_TOOLS_IN_TEMPLATE = re.compile(r"\btools\b")
# How the calls stand in an answer: Hermes and Qwen; Mistral; Llama 3, with or without the tag.
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*(.*)\Z", re.DOTALL)
_LLAMA = re.compile(r"(?:<\|python_tag\|>)?\s*(\{.*\})\s*(?:<\|eom_id\|>|<\|eot_id\|>)?\s*\Z", re.DOTALL)

_TOLD = (
    "You may call these tools:\n{tools}\nTo call one, write "
    '<tool_call>{{"name": "...", "arguments": {{...}}}}</tool_call> and nothing else.'
)
_NO_CHOICE = "tool_choice={}: choose 'auto', 'none', 'any', or a tool's name"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an answer asks for.

    Attributes:
        name: of the tool.
        arguments: by name.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """An answer taken apart.

    Attributes:
        text: what is said beside the calls.
        calls: the tools to call, in order.
        malformed: texts in the place of a call that are no valid call.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    malformed: tuple[str, ...] = ()


def checked_tools(tools: Sequence[Tool]) -> tuple[dict[str, Any], ...]:
    """Tools as templates take them: each ``{"type": "function", "function": {"name": ..., ...}}``.

    Args:
        tools: of this form, or the functions alone.

    Raises:
        ConfigError: if one is no JSON schema of a function, or there are more of them than `limits` allow.
    """
    if isinstance(tools, (str, bytes, bytearray, Mapping)) or not isinstance(tools, Sequence):
        msg = f"tools must be a list of JSON schemas of functions, not {shown(tools)}"
        raise ConfigError(msg)
    if len(tools) > MAX_TOOLS:
        msg = f"there are {len(tools)} tools: at most {MAX_TOOLS} are told of"
        raise ConfigError(msg)
    budget = Budget(ConfigError)
    return tuple(_checked_tool(tool, f"tool {number}", budget) for number, tool in enumerate(tools))


def _checked_tool(tool: Any, where: str, budget: Budget) -> dict[str, Any]:
    function = _function(tool, where, ConfigError)
    for key, kind, words in (("description", str, "a text"), ("parameters", Mapping, "a JSON schema")):
        if not isinstance(function.get(key), (kind, type(None))):
            msg = f"{where}: {key} must be {words}, not {shown(function[key])}"
            raise ConfigError(msg)
    if "function" not in tool:
        tool = {"type": "function", "function": tool}
    checked: dict[str, Any] = budget.plain(tool, where)
    return checked


def checked_calls(calls: Any, where: str, budget: Budget) -> list[dict[str, Any]]:
    """Calls of tools in a message, as templates take them.

    Args:
        calls: each ``{"function": {"name": ..., "arguments": ...}}``, or the function alone; arguments are an object,
            or a text. None is none.
        where: they stand, for errors.
        budget: of the conversation.

    Raises:
        MessageError: if they are of another form.
    """
    if calls is None:
        return []
    if isinstance(calls, (str, bytes, bytearray, Mapping)) or not isinstance(calls, Sequence):
        msg = f"{where}: tool_calls must be a list, not {shown(calls)}"
        raise MessageError(msg)
    if len(calls) > MAX_TOOLS:
        msg = f"{where}: there are {len(calls)} calls of tools: at most {MAX_TOOLS} are read"
        raise MessageError(msg)
    return [_checked_call(call, f"{where}, tool call {number}", budget) for number, call in enumerate(calls)]


def _checked_call(call: Any, where: str, budget: Budget) -> dict[str, Any]:
    arguments = _function(call, where, MessageError).get("arguments")
    if not isinstance(arguments, (str, Mapping, type(None))):
        msg = f"{where}: arguments must be an object, or a text, not {shown(arguments)}"
        raise MessageError(msg)
    checked: dict[str, Any] = budget.plain(call, where)
    function = checked.get("function", checked)
    if function.get("arguments") is None:
        function["arguments"] = {}
    return checked


def _function(given: Any, where: str, error: type[SaliencyGuardError]) -> Mapping[str, Any]:
    """The function of a tool, or of a call of one, which has a name."""
    function = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        msg = f"{where} must be {{'type': 'function', 'function': {{'name': ..., ...}}}}, not {shown(given)}"
        raise error(msg)
    return function


def takes_tools(processor: Any) -> bool:
    """Whether a processor's chat template says anything of tools."""
    template = getattr(processor, "chat_template", None)
    templates = template.values() if isinstance(template, Mapping) else [template]
    return any(isinstance(template, str) and _TOOLS_IN_TEMPLATE.search(template) for template in templates)


def in_words(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    quote: Callable[[str], str] = lambda text: text,
) -> list[dict[str, Any]]:
    """Checked messages for a template that knows no tools.

    The system message tells of them, calls are said by the assistant, and results come from the user.

    Args:
        messages: the messages.
        tools: what they may call.
        quote: what is done to the names, descriptions and arguments of tools before they are told.
    """
    changed: list[dict[str, Any]] = []
    for message in messages:
        parts = list(message["content"])
        if message["role"] == "tool":
            parts.insert(0, _text(f"Result of {message.get('name') or 'the tool'}: "))
        for made in message.get("tool_calls", ()):
            function = made.get("function", made)
            call = {"name": function.get("name"), "arguments": function.get("arguments", {})}
            parts.append(_text(f"<tool_call>{quote(json.dumps(call))}</tool_call>"))
        role = "user" if message["role"] == "tool" else message["role"]
        changed.append({"role": role, "content": parts})
    if tools:
        listed = (quote(json.dumps(dict(tool.get("function", tool)))) for tool in tools)
        described = _text(_TOLD.format(tools="\n".join(listed)))
        if changed[0]["role"] == "system":
            changed[0]["content"] += [_text("\n"), described]
        else:
            changed.insert(0, {"role": "system", "content": [described]})
    return changed


def merge_runs(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Checked messages for a template whose roles must alternate: neighbours of one role are one message."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        last = merged[-1] if merged else {}
        if message["role"] == last.get("role") and message["role"] != "tool":
            calls = [*last.get("tool_calls", ()), *message.get("tool_calls", ())]
            content = [*last["content"], _text("\n"), *message["content"]]
            merged[-1] = {**last, **message, "content": content, **({"tool_calls": calls} if calls else {})}
        else:
            merged.append(dict(message))
    return merged


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def parse_tool_calls(text: str) -> ParsedAnswer:
    """Read the calls out of an answer, in the forms of Hermes and Qwen, Mistral, and Llama 3.

    Args:
        text: the answer with its special tokens.
    """
    if "<tool_call>" in text:
        blocks = _TAGGED.findall(text)
        return _parsed(_TAGGED.sub("", text).strip(), [(piece, list(_calls(piece))) for piece in blocks])
    mistral = _MISTRAL.search(text)
    if mistral is not None:
        return _parsed(text[: mistral.start()].strip(), [(mistral[1], list(_calls(mistral[1])))])
    llama = _LLAMA.fullmatch(text)
    if llama is not None and (calls := list(_calls(llama[1]))):
        return ParsedAnswer("", tuple(calls))
    return ParsedAnswer(text)


def _parsed(text: str, pieces: Sequence[tuple[str, list[ToolCall]]]) -> ParsedAnswer:
    calls = tuple(call for _, calls_there in pieces for call in calls_there)
    return ParsedAnswer(text, calls, tuple(piece for piece, calls_there in pieces if not calls_there))


def _calls(piece: str) -> Iterator[ToolCall]:
    """The calls of a JSON object, or of a list of them; none where it is neither."""
    try:
        value, _ = json.JSONDecoder().raw_decode(piece.strip())
    except (ValueError, RecursionError):  # No JSON, or nested or with numbers beyond what is read.
        return
    for call in value if isinstance(value, list) else [value]:
        if isinstance(call, dict) and isinstance(call.get("name"), str):
            arguments = call.get("arguments", call.get("parameters", {}))
            if isinstance(arguments, dict):
                yield ToolCall(call["name"], arguments)


def required_tools(tools: Sequence[Tool], tool_choice: Any) -> list[Tool]:
    """The tools of which one has to be called; none where the model may choose.

    Args:
        tools: all there are.
        tool_choice: in the words of OpenAI and LangChain: None, ``"auto"``, ``"none"``, ``"any"``, ``"required"``, a
            bool, a tool's name, or ``{"type": "function", "function": {"name": ...}}``.

    Raises:
        ConfigError: if the tool that is asked for is not among them, or a tool or the choice is of another form.
    """
    known = checked_tools(tools)
    if isinstance(tool_choice, Mapping):
        tool_choice = _chosen(tool_choice)
    if not isinstance(tool_choice, (str, bool, type(None))):
        raise ConfigError(_NO_CHOICE.format(shown(tool_choice)))
    if tool_choice in (None, False, "auto", "none"):
        return []
    if tool_choice in (True, "any", "required"):
        return list(known)
    chosen: list[Tool] = [tool for tool in known if tool["function"]["name"] == tool_choice]
    if not chosen:
        names = ", ".join(tool["function"]["name"] for tool in known)
        msg = f"tool_choice={shown(tool_choice)} is none of the tools: {names}"
        raise ConfigError(msg)
    return chosen


def _chosen(tool_choice: Mapping[str, Any]) -> str:
    """What a choice in OpenAI's form says: the name of a tool, or a type."""
    function = tool_choice.get("function", tool_choice)
    named = function.get("name") if isinstance(function, Mapping) else None
    if named is None and "function" not in tool_choice:
        named = tool_choice.get("type")
    if not isinstance(named, str):
        raise ConfigError(_NO_CHOICE.format(shown(tool_choice)))
    return named


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """A JSON schema of a call of one of the tools."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": closed(tool["function"].get("parameters") or {"type": "object", "properties": {}}),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing but what is named, unless the schema says otherwise: a model left to itself would never stop."""
    if schema.get("type") == "object" and "properties" in schema:
        return {"additionalProperties": False, **schema}
    return dict(schema)


def requested_schema(response_format: Any) -> Any:
    """The JSON schema that a ``response_format`` of OpenAI's form asks for; None for free text.

    Args:
        response_format: anything else, such as a schema itself, is returned as it is.

    Raises:
        ConfigError: if there is none where its type says that there is.
    """
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        return response_format
    given = response_format.get("json_schema")
    schema = given.get("schema", given) if isinstance(given, Mapping) else None
    if not isinstance(schema, Mapping) or schema.get("type") == "json_schema":
        msg = f"response_format must be {{'type': 'json_schema', 'json_schema': {{'schema': ...}}}}, not {shown(given)}"
        raise ConfigError(msg)
    return schema


def read_calls(text: str, token_ids: Sequence[int], tokenizer: Any, *, was_forced: bool) -> ParsedAnswer:
    """The tool calls of an answer in which there may be some.

    Args:
        text: of the answer.
        token_ids: of the answer: many models mark a call with special tokens, which are no part of the text.
        tokenizer: the model's.
        was_forced: whether the answer was held to the schema of a call.
    """
    whole = text
    if not was_forced:
        whole = tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    parsed = parse_tool_calls(whole)
    if parsed.calls or parsed.malformed:
        return parsed
    return ParsedAnswer("", malformed=(whole,)) if was_forced else ParsedAnswer(text)
