"""LangChain messages to the core's: every form of an image block, tool calls and their results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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

FetchImage = Callable[[str], bytes]

_ROLES = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "system": "system"}
_IMAGE_KEYS = ("image", "path", "url", "base64", "data")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_LONGEST_PATH = 1024
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
        MessageError: for a message or block of a kind that a vision-language model does not take.
        ImageError: for an image that is named by an id of a provider.
    """
    return [_message(message, number, fetch_image) for number, message in enumerate(messages)]


def _message(message: BaseMessage, number: int, fetch_image: FetchImage | None) -> dict[str, Any]:
    found: dict[str, Any] = {"role": _role(message, number), "content": _parts(message.content, number, fetch_image)}
    if isinstance(message, AIMessage) and message.tool_calls:
        found["tool_calls"] = [
            {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": call["args"]}}
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        found["tool_call_id"] = message.tool_call_id
    if isinstance(message, (ToolMessage, FunctionMessage)) and message.name:
        found["name"] = message.name
    if not found["content"] and "tool_calls" not in found:
        found["content"] = ""
    return found


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
    parts = [_part(block, number, fetch_image) for block in blocks]
    return [part for part in parts if part is not None]


def _part(block: Any, number: int, fetch_image: FetchImage | None) -> dict[str, Any] | None:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = block.get("type")
    if kind == "non_standard":
        return _part(block.get("value", {}), number, fetch_image)
    if kind in _SILENT:
        return None
    if kind in {"text", "input_text", "output_text", "text-plain"}:
        return _text(block)
    if _is_image(block):
        return {"type": "image", "image": _image(block, number, fetch_image)}
    msg = f"message {number} has a block of type {kind!r}: this model takes text and images"
    raise MessageError(msg)


def _text(block: Mapping[str, Any]) -> dict[str, Any]:
    part = {"type": "text", "text": str(block.get("text", ""))}
    source = block.get("source", (block.get("extras") or {}).get("source"))
    return {**part, "source": source} if isinstance(source, str) else part


def _image(block: Mapping[str, Any], number: int, fetch_image: FetchImage | None) -> Any:
    """The picture of a block, in a form that the core loads."""
    source = block.get("source")
    if isinstance(source, Mapping):  # Anthropic
        block = {**source, "base64": source.get("data")}
    target = block.get("image_url")
    if target is not None:
        block = {"url": target.get("url") if isinstance(target, Mapping) else target}
    key = next((key for key in _IMAGE_KEYS if block.get(key) is not None), None)
    if key is None:
        known = "a provider's file id" if block.get("file_id") or block.get("id") else "nothing that can be read"
        msg = f"message {number} has an image block with {known}: give base64, a data URI, a path or a picture"
        raise ImageError(msg)
    image = block[key]
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        if fetch_image is None:
            msg = (
                f"message {number}: {image[:80]!r} is not fetched: pass the image itself, or "
                "SaliencyGuardedLVLM(fetch_image=...), a function from a URL to bytes"
            )
            raise ImageError(msg)
        return fetch_image(image)
    if key in {"base64", "data"} and isinstance(image, str) and not image.startswith("data:"):
        return _data_uri(image)
    return image


def image_of(data: Any) -> Any:
    """A picture in a form that the core loads: base64 of any length is told from a path by there being no such file."""
    if not isinstance(data, str) or not _BASE64.fullmatch(data):
        return data
    return data if len(data) < _LONGEST_PATH and Path(data).is_file() else _data_uri(data)


def _data_uri(base64: str) -> str:
    return f"data:image/unknown;base64,{base64}"


def _blocks(messages: Sequence[BaseMessage]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        for block in message.content if isinstance(message.content, list) else ():
            if isinstance(block, Mapping):
                yield block.get("value", {}) if block.get("type") == "non_standard" else block


def _is_image(block: Mapping[str, Any]) -> bool:
    return block.get("type") in _IMAGES or str(block.get("mime_type", "")).startswith("image/")


def has_picture(messages: Sequence[BaseMessage]) -> bool:
    """Whether there is a picture for an answer to rest on; nothing is loaded."""
    return any(map(_is_image, _blocks(messages)))


def by_content(messages: Sequence[BaseMessage]) -> bool:
    """Whether every picture stands in the messages themselves, and not in a file or an object."""

    def inside(block: Mapping[str, Any]) -> bool:
        target = block.get("image_url", block.get("url"))
        target = target.get("url") if isinstance(target, Mapping) else target
        return "path" not in block and "image" not in block and not str(target).startswith("file:")

    return all(inside(block) for block in _blocks(messages) if _is_image(block))
