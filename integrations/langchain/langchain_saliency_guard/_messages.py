"""LangChain messages to the core's: every form of an image block, tool calls and their results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from saliency_guard import ImageError, MessageError
from saliency_guard.adapters import MAX_MESSAGES, fetched, is_remote, scheme_of, shown
from saliency_guard.adapters import Fetch as FetchImage

_ROLES = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "system": "system"}
_IMAGE_KEYS = ("image", "path", "url", "base64", "data")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]++={0,2}\s*")
_LONGEST_PATH = 1024
_DEEPEST = 8
_IMAGES = {"image", "image_url", "input_image"}
_SILENT = {
    "tool_call",
    "tool_call_chunk",
    "tool_use",
    "invalid_tool_call",
    "function_call",
    "reasoning",
    "reasoning_content",
    "thinking",
    "redacted_thinking",
}
"""Blocks of an earlier answer that are not said again: calls stand in `AIMessage.tool_calls`."""


def to_core(messages: Sequence[BaseMessage], *, fetch_image: FetchImage | None = None) -> list[dict[str, Any]]:
    """Messages as `saliency_guard.LVLM` takes them.

    Args:
        messages: of a chat.
        fetch_image: gets the bytes behind an http(s) URL; None refuses such URLs.

    Raises:
        MessageError: for a message or block of a kind or form that a vision-language model does not take.
        ImageError: for an image that is named by an id of a provider, or would have to be fetched.
    """
    if not isinstance(messages, Sequence) or len(messages) > MAX_MESSAGES:
        msg = f"messages must be a list, of at most {MAX_MESSAGES}, not {shown(messages)}"
        raise MessageError(msg)
    return [_message(message, number, fetch_image) for number, message in enumerate(messages)]


def _message(message: BaseMessage, number: int, fetch_image: FetchImage | None) -> dict[str, Any]:
    role = _role(message, number)
    found: dict[str, Any] = {"role": role, "content": _parts(message.content, number, fetch_image)}
    calls: Any = message.tool_calls if isinstance(message, AIMessage) else None
    if isinstance(calls, list) and calls:
        found["tool_calls"] = [_call(call) for call in calls]
    elif not isinstance(calls, (list, type(None))):
        msg = f"message {number} has {shown(calls)} as its calls of tools: give a list"
        raise MessageError(msg)
    if isinstance(message, ToolMessage):
        found["tool_call_id"] = message.tool_call_id
    if isinstance(message, (ToolMessage, FunctionMessage)) and message.name is not None:
        found["name"] = message.name
    if not found["content"] and "tool_calls" not in found:
        found["content"] = ""
    return found


def _call(call: Any) -> Any:
    """A call of a tool in the core's form; the core says what is wrong with any other."""
    if not isinstance(call, Mapping):
        return call
    function = {"name": call.get("name"), "arguments": call.get("args")}
    return {"type": "function", "id": call.get("id"), "function": function}


def _role(message: BaseMessage, number: int) -> str:
    if isinstance(message, (ToolMessage, FunctionMessage)):
        return "tool"
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    role = _ROLES.get(message.role) if isinstance(message, ChatMessage) else None
    if role is None:
        msg = f"message {number} is a {type(message).__name__}: give system, human, AI or tool messages"
        raise MessageError(msg)
    return role


def _parts(content: Any, number: int, fetch_image: FetchImage | None) -> list[dict[str, Any]]:
    blocks = [content] if isinstance(content, (str, Mapping)) else content
    if not isinstance(blocks, (list, tuple)):
        msg = f"message {number} has {shown(content)} as its content: give a text or a list of blocks"
        raise MessageError(msg)
    parts = [_part(block, number, fetch_image) for block in blocks]
    return [part for part in parts if part is not None]


def _part(block: Any, number: int, fetch_image: FetchImage | None) -> dict[str, Any] | None:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    plain = _unwrapped(block, number)
    kind = plain["type"]
    if kind in _SILENT:
        return None
    if kind in {"text", "input_text", "output_text", "text-plain"}:
        return _text(plain, number)
    if _is_image(plain):
        return {"type": "image", "image": _image(plain, number, fetch_image)}
    msg = f"message {number} has a block of type {shown(kind)}: this model takes text and images"
    raise MessageError(msg)


def _unwrapped(block: Any, number: int) -> Mapping[str, Any]:
    """A block, out of what marks it as non-standard, with a text as its type."""
    inner = block
    for _ in range(_DEEPEST):
        if not isinstance(inner, Mapping) or not isinstance(inner.get("type", ""), str):
            break
        if inner.get("type") != "non_standard":
            return {"type": "", **inner}
        inner = inner.get("value")
    msg = f"message {number} has {shown(block)} as a block: give a dict with a type"
    raise MessageError(msg)


def _text(block: Mapping[str, Any], number: int) -> dict[str, Any]:
    text = block.get("text")
    if not isinstance(text, str):
        msg = f"message {number} has a block of text whose text is {shown(text)}"
        raise MessageError(msg)
    extras = block.get("extras")
    source = block.get("source", extras.get("source") if isinstance(extras, Mapping) else None)
    part = {"type": "text", "text": text}
    return {**part, "source": source} if isinstance(source, str) else part


def _image(block: Mapping[str, Any], number: int, fetch_image: FetchImage | None) -> Any:
    """The picture of a block, in a form that the core loads."""
    key, image = _picture(block)
    if image is None:
        known = "a provider's file id" if block.get("file_id") or block.get("id") else "nothing that can be read"
        msg = f"message {number} has an image block with {known}: give base64, a data URI, a path or a picture"
        raise ImageError(msg)
    if isinstance(image, str) and is_remote(image):
        return fetched(image, fetch_image)
    if key in {"base64", "data"} and isinstance(image, str) and scheme_of(image) != "data":
        return _data_uri(image)
    return image


def _picture(block: Mapping[str, Any]) -> tuple[str, Any]:
    """Under which key a block of an image has it, and what stands there; None is nothing."""
    source = block.get("source")
    if isinstance(source, Mapping):  # Anthropic
        block = {**source, "base64": source.get("data")}
    target = block.get("image_url")
    if target is not None:
        block = {"url": target.get("url") if isinstance(target, Mapping) else target}
    return next(((key, block[key]) for key in _IMAGE_KEYS if block.get(key) is not None), ("", None))


def image_of(data: Any) -> Any:
    """A picture in a form that the core loads: base64 of any length is told from a path by there being no such file."""
    if not isinstance(data, str) or not _BASE64.fullmatch(data):
        return data
    return data if len(data) < _LONGEST_PATH and Path(data).is_file() else _data_uri(data)


def _data_uri(base64: str) -> str:
    return f"data:image/unknown;base64,{base64}"


def _blocks(messages: Sequence[BaseMessage]) -> Iterator[Mapping[str, Any]]:
    for number, message in enumerate(messages):
        content = [message.content] if isinstance(message.content, Mapping) else message.content
        for block in content if isinstance(content, (list, tuple)) else ():
            if not isinstance(block, str):
                yield _unwrapped(block, number)


def _is_image(block: Mapping[str, Any]) -> bool:
    kind = block.get("mime_type")
    return block["type"] in _IMAGES or (isinstance(kind, str) and kind.casefold().startswith("image/"))


def has_picture(messages: Sequence[BaseMessage]) -> bool:
    """Whether there is a picture for an answer to rest on; nothing is loaded."""
    return any(map(_is_image, _blocks(messages)))


def by_content(messages: Sequence[BaseMessage]) -> bool:
    """Whether every picture stands in the messages themselves, and not in a file or an object."""

    def inside(block: Mapping[str, Any]) -> bool:
        key, image = _picture(block)
        if not isinstance(image, str):
            return image is None
        return key in {"base64", "data"} or scheme_of(image) == "data" or is_remote(image)

    return all(inside(block) for block in _blocks(messages) if _is_image(block))
