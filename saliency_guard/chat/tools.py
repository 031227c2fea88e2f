"""Tools in a conversation: how a chat template is told of them, and how the calls are read out of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saliency_guard.errors import ConfigError

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
        malformed: what stands where a call should be and is none.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    malformed: tuple[str, ...] = ()


def takes_tools(processor: Any) -> bool:
    """Whether a processor's chat template says anything of tools."""
    template = getattr(processor, "chat_template", None)
    templates = template.values() if isinstance(template, Mapping) else [template]
    return any(isinstance(one, str) and _TOOLS_IN_TEMPLATE.search(one) for one in templates)


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
        told = _text(_TOLD.format(tools="\n".join(listed)))
        if changed[0]["role"] == "system":
            changed[0]["content"] += [_text("\n"), told]
        else:
            changed.insert(0, {"role": "system", "content": [told]})
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
        found = _TAGGED.findall(text)
        return _parsed(_TAGGED.sub("", text).strip(), [(piece, list(_calls(piece))) for piece in found])
    mistral = _MISTRAL.search(text)
    if mistral is not None:
        return _parsed(text[: mistral.start()].strip(), [(mistral[1], list(_calls(mistral[1])))])
    llama = _LLAMA.fullmatch(text)
    if llama is not None and (calls := list(_calls(llama[1]))):
        return ParsedAnswer("", tuple(calls))
    return ParsedAnswer(text)


def _parsed(text: str, pieces: Sequence[tuple[str, list[ToolCall]]]) -> ParsedAnswer:
    calls = tuple(call for _, found in pieces for call in found)
    return ParsedAnswer(text, calls, tuple(piece for piece, found in pieces if not found))


def _calls(piece: str) -> Iterator[ToolCall]:
    """The calls of a JSON object, or of a list of them; none where it is neither."""
    try:
        value, _ = json.JSONDecoder().raw_decode(piece.strip())
    except json.JSONDecodeError:
        return
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            arguments = one.get("arguments", one.get("parameters", {}))
            if isinstance(arguments, dict):
                yield ToolCall(one["name"], arguments)


def required_tools(tools: Sequence[Tool], tool_choice: Any) -> list[Tool]:
    """The tools of which one has to be called; none where the model may choose.

    Args:
        tools: all there are.
        tool_choice: in the words of OpenAI and LangChain: None, ``"auto"``, ``"none"``, ``"any"``, ``"required"``, a
            bool, a tool's name, or ``{"type": "function", "function": {"name": ...}}``.

    Raises:
        ConfigError: if the tool that is asked for is not among them.
    """
    if isinstance(tool_choice, Mapping):
        named = tool_choice.get("function", tool_choice).get("name")
        tool_choice = named or tool_choice.get("type")
    if tool_choice in (None, False, "auto", "none"):
        return []
    if tool_choice in (True, "any", "required"):
        return list(tools)
    chosen = [tool for tool in tools if tool["function"]["name"] == tool_choice]
    if not chosen:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        msg = f"tool_choice={tool_choice!r} is none of the tools: {names}"
        raise ConfigError(msg)
    return chosen


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
