"""Converts LangChain messages to the core's: every form of image block, tool calls and their results."""

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
from saliency_guard.adapters import Fetch as FetchImage
from saliency_guard.adapters import fetched, is_remote, require_messages, scheme_of, shown

_ROLES = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "system": "system"}
_IMAGE_KEYS = ("image", "path", "url", "base64", "data")
BASE64 = re.compile(r"[A-Za-z0-9+/\s]++={0,2}\s*")
_MAX_PATH_LENGTH = 1024
_MAX_DEPTH = 8
_IMAGE_TYPES = {"image", "image_url", "input_image"}
SKIPPED_TYPES = {
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
"""Blocks of earlier answers that are not part of the prompt: tool calls are taken from `AIMessage.tool_calls`."""


def to_core(messages: Sequence[BaseMessage], *, fetch_image: FetchImage | None = None) -> list[dict[str, Any]]:
    """Messages in the form that `saliency_guard.LVLM` takes.

    Args:
        messages: the messages of a chat.
        fetch_image: downloads the bytes behind an http(s) URL; None refuses such URLs.

    Raises:
        MessageError: for a message or block that a vision-language model does not take.
        ImageError: for an image given by a provider's file id, or by a URL that may not be fetched.
    """
    require_messages(messages, "LangChain messages")
    return [_message(message, number, fetch_image) for number, message in enumerate(messages)]


def _message(message: BaseMessage, number: int, fetch_image: FetchImage | None) -> dict[str, Any]:
    role = _role(message, number)
    converted: dict[str, Any] = {"role": role, "content": _parts(message.content, number, fetch_image)}
    calls: Any = message.tool_calls if isinstance(message, AIMessage) else None
    if isinstance(calls, list) and calls:
        converted["tool_calls"] = [_call(call) for call in calls]
    elif not isinstance(calls, (list, type(None))):
        msg = f"message {number} has {shown(calls)} as its tool calls: give a list"
        raise MessageError(msg)
    if isinstance(message, ToolMessage):
        converted["tool_call_id"] = message.tool_call_id
    if isinstance(message, (ToolMessage, FunctionMessage)) and message.name is not None:
        converted["name"] = message.name
    if not converted["content"] and "tool_calls" not in converted:
        converted["content"] = ""
    return converted


def _call(call: Any) -> Any:
    """A tool call in the core's form; anything else is returned as it is, and the core reports what is wrong."""
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
    unwrapped = _unwrapped(block, number)
    block_type = unwrapped["type"]
    if block_type in SKIPPED_TYPES:
        return None
    if block_type in {"text", "input_text", "output_text", "text-plain"}:
        return _text(unwrapped, number)
    if _is_image(unwrapped):
        return {"type": "image", "image": _image(unwrapped, number, fetch_image)}
    msg = f"message {number} has a block of type {shown(block_type)}: this model takes text and images"
    raise MessageError(msg)


def _unwrapped(block: Any, number: int) -> Mapping[str, Any]:
    """A block without its non-standard wrappers, with a string as its type."""
    inner = block
    for _ in range(_MAX_DEPTH):
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
        msg = f"message {number} has a text block whose text is {shown(text)}"
        raise MessageError(msg)
    extras = block.get("extras")
    source = block.get("source", extras.get("source") if isinstance(extras, Mapping) else None)
    part = {"type": "text", "text": text}
    return {**part, "source": source} if isinstance(source, str) else part


def _image(block: Mapping[str, Any], number: int, fetch_image: FetchImage | None) -> Any:
    """The picture of a block, in a form that the core loads."""
    key, image = _picture(block)
    if image is None:
        content = "a provider's file id" if block.get("file_id") or block.get("id") else "no readable image"
        msg = f"message {number} has an image block with {content}: give base64, a data URI, a path or a PIL image"
        raise ImageError(msg)
    if isinstance(image, str) and is_remote(image):
        return fetched(image, fetch_image)
    if key in {"base64", "data"} and isinstance(image, str) and scheme_of(image) != "data":
        return _data_uri(image)
    return image


def _picture(block: Mapping[str, Any]) -> tuple[str, Any]:
    """The key and the value of the image in an image block; the value is None if there is none."""
    source = block.get("source")
    if isinstance(source, Mapping):  # Anthropic
        block = {**source, "base64": source.get("data")}
    target = block.get("image_url")
    if target is not None:
        block = {"url": target.get("url") if isinstance(target, Mapping) else target}
    return next(((key, block[key]) for key in _IMAGE_KEYS if block.get(key) is not None), ("", None))


def image_of(data: Any) -> Any:
    """A picture in a form that the core loads; a string that looks like base64 is a path only if that file exists."""
    if not isinstance(data, str) or not BASE64.fullmatch(data):
        return data
    return data if len(data) < _MAX_PATH_LENGTH and Path(data).is_file() else _data_uri(data)


def _data_uri(base64: str) -> str:
    return f"data:image/unknown;base64,{base64}"


def _blocks(messages: Sequence[BaseMessage]) -> Iterator[Mapping[str, Any]]:
    for number, message in enumerate(messages):
        content = [message.content] if isinstance(message.content, Mapping) else message.content
        for block in content if isinstance(content, (list, tuple)) else ():
            if not isinstance(block, str):
                yield _unwrapped(block, number)


def _is_image(block: Mapping[str, Any]) -> bool:
    mime_type = block.get("mime_type")
    is_image_type = isinstance(mime_type, str) and mime_type.casefold().startswith("image/")
    return block["type"] in _IMAGE_TYPES or is_image_type


def has_picture(messages: Sequence[BaseMessage]) -> bool:
    """Whether the messages have a picture; nothing is loaded."""
    return any(map(_is_image, _blocks(messages)))


def by_content(messages: Sequence[BaseMessage]) -> bool:
    """Whether the messages identify every picture: as base64 or a URL, and not as a file or an object."""

    def is_identified(block: Mapping[str, Any]) -> bool:
        key, image = _picture(block)
        if not isinstance(image, str):
            return image is None
        return key in {"base64", "data"} or scheme_of(image) == "data" or is_remote(image)

    return all(is_identified(block) for block in _blocks(messages) if _is_image(block))
