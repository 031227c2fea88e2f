"""Chat messages in, checked before anything is done with them.

Messages have the shape that transformers' chat templates take: a list of dicts with ``role`` and
``content``, the content a string or a list of parts. A part is text, or an image as a PIL picture, an array, a
path, bytes, a base64 string (under ``"base64"``) or a data URL. Nothing is ever fetched from the network.
A message of the assistant may have ``tool_calls``, and one of the role ``tool`` is the result of one. How much a
conversation may hold is said in `limits`, how large a picture may be in `images`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from saliency_guard.chat.fetch import scheme_of
from saliency_guard.chat.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, decoded_base64, load_image
from saliency_guard.chat.limits import Budget, require_messages
from saliency_guard.chat.tools import checked_calls
from saliency_guard.errors import ImageError, MessageError, shown

_ROLES = ("system", "user", "assistant", "tool")
_NAMES = ("tool_call_id", "name")
_IMAGE_KEYS = ("image", "path", "url", "base64", "data")
_SPAN_NAME = re.compile(r"[A-Za-z][\w.-]*")
_TOGETHER = 8  # Times the pixels of one picture.
_RESERVED = re.compile(r"output|(image|video)_\d+")


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text, and the name of the source it is (a retrieved document, ``"system"``); None is plain text."""

    source: str | None
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """Checked messages.

    Attributes:
        messages: for the chat template; image parts hold RGB pictures under ``"image"``.
        images: the same pictures, in order.
        texts: all text parts, in order.
    """

    messages: tuple[dict[str, Any], ...]
    images: tuple[Image.Image, ...]
    texts: tuple[TextPart, ...]

    @property
    def question(self) -> str:
        """The last text of the last user message; empty where there is none."""
        users = [message for message in self.messages if message["role"] == "user"]
        texts = [part["text"] for part in users[-1]["content"] if part["type"] == "text"] if users else []
        return str(texts[-1]) if texts else ""

    @property
    def documents(self) -> tuple[str, ...]:
        """Names of the texts that are sources of their own: retrieved documents, not what a system message says."""
        names = [text.source for text in self.texts if text.source is not None and text.source != "system"]
        return tuple(dict.fromkeys(names))

    @property
    def document_lengths(self) -> tuple[int, ...]:
        """Characters of each of the `documents`."""
        return tuple(sum(len(text.text) for text in self.texts if text.source == name) for name in self.documents)


def chat(image: Any, question: str) -> list[dict[str, Any]]:
    """One user message with one image, in any form `parse_messages` takes, and a question about it."""
    return chat_about([image], question)


def chat_about(images: Sequence[Any], question: str) -> list[dict[str, Any]]:
    """One user message with several images, each in any form `parse_messages` takes, and a question about them."""
    parts = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def parse_messages(
    messages: Sequence[Mapping[str, Any]],
    *,
    max_pixels: int = MAX_IMAGE_PIXELS,
    max_bytes: int = MAX_IMAGE_BYTES,
    require_image: bool = True,
) -> Conversation:
    """Check messages and load their images.

    Args:
        messages: chat messages; a text part may name its source: ``{"type": "text", "text": ...,
            "source": "document_1"}``.
        max_pixels: the most pixels an image may have; all of them together may have eight times as many.
        max_bytes: the most bytes an image may take as a file.
        require_image: whether a conversation without any image is refused.

    Raises:
        MessageError: if there is no message, one is malformed, or there is more than `limits` allow.
        ImageError: if an image is missing, unreadable, too large, or of an unknown kind.
    """
    require_messages(messages, "{'role', 'content'} dicts")
    if not messages:
        msg = "the list of messages is empty: give at least one user message"
        raise MessageError(msg)
    budget = Budget()
    checked = [_message(message, number, budget) for number, message in enumerate(messages)]
    texts = [_named_text(part, message["role"]) for message in checked for part in message["content"]]
    images: list[Image.Image] = []
    for part in (part for message in checked for part in message["content"] if part["type"] == "image"):
        source = _source(*part["image"], max_bytes=max_bytes)
        part["image"] = load_image(source, max_pixels=max_pixels, max_bytes=max_bytes)
        images.append(part["image"])
        if sum(image.width * image.height for image in images) > _TOGETHER * max_pixels:
            msg = f"the images together have more than {_TOGETHER * max_pixels} pixels: send fewer or smaller ones"
            raise ImageError(msg)
    if require_image and not images:
        msg = (
            "there is no image in the messages: add {'type': 'image', 'image': <picture or path>} to a user "
            "message's content, or allow text alone with LVLM(..., require_image=False)"
        )
        raise ImageError(msg)
    return Conversation(tuple(checked), tuple(images), tuple(text for text in texts if text is not None))


def _message(message: Any, number: int, budget: Budget) -> dict[str, Any]:
    """A message whose shape is checked; its pictures are not looked at yet."""
    given = message if isinstance(message, Mapping) else {}
    role, content = given.get("role"), given.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        msg = f"message {number} has role {shown(role)}; roles are {', '.join(_ROLES)}"
        raise MessageError(msg)
    kept: dict[str, Any] = {key: name for key in _NAMES if (name := _name(given, key, number, budget))}
    calls = checked_calls(given.get("tool_calls"), f"message {number}", budget)
    if calls:
        kept["tool_calls"] = calls
    is_empty = content is None or (isinstance(content, (str, list, tuple)) and not content)
    parts = [] if calls and is_empty else [_part(part, number, budget) for part in _parts(content, number, budget)]
    return {"role": role, "content": parts, **kept}


def _name(message: Mapping[str, Any], key: str, number: int, budget: Budget) -> str | None:
    name = message.get(key)
    if name is None:
        return None
    if not isinstance(name, str):
        msg = f"message {number}: {key} must be a text, not {shown(name)}"
        raise MessageError(msg)
    budget.text(name, f"message {number}")
    return name


def _named_text(part: dict[str, Any], role: str) -> TextPart | None:
    """A text part with its source, which is kept from the template; None for an image."""
    if part["type"] != "text":
        return None
    return TextPart(part.pop("source", "system" if role == "system" else None), part["text"])


def _parts(content: Any, number: int, budget: Budget) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray, memoryview)) and len(content) > 0:
        budget.parts(len(content))
        return list(content)
    msg = f"message {number} has no content: it must be a string or a non-empty list of parts"
    raise MessageError(msg)


def _part(part: Any, number: int, budget: Budget) -> dict[str, Any]:
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        kind = ""
    if kind == "text":
        text, source = part.get("text"), part.get("source")
        if not isinstance(text, str):
            msg = f"message {number} has a text part whose text is {shown(text)}"
            raise MessageError(msg)
        budget.text(text, f"message {number}")
        if source is None:
            return {"type": "text", "text": text}
        if not isinstance(source, str) or not _SPAN_NAME.fullmatch(source) or _RESERVED.fullmatch(source):
            rule = "letters, digits, _ . -; not output or image_0"
            msg = f"message {number}: {shown(source)} cannot name a source ({rule})"
            raise MessageError(msg)
        return {"type": "text", "text": text, "source": source}
    if kind == "image_url":
        target = part.get("image_url")
        return _image("image_url", target.get("url") if isinstance(target, Mapping) else target, number, budget)
    if kind == "image":
        key = next((key for key in _IMAGE_KEYS if part.get(key) is not None), "image")
        return _image(key, part.get(key), number, budget)
    msg = f"message {number} has a part of unknown type {shown(kind or part)}; types are 'text' and 'image'"
    raise MessageError(msg)


def _image(key: str, source: Any, number: int, budget: Budget) -> dict[str, Any]:
    if source is None:
        msg = f"message {number} has an image part without an image: put it under 'image'"
        raise ImageError(msg)
    budget.image()
    return {"type": "image", "image": (key, source)}


def _source(key: str, source: Any, *, max_bytes: int) -> Any:
    """A picture in a form that `load_image` takes: base64 of any length is told by its key."""
    is_base64 = key in {"base64", "data"} and isinstance(source, str) and scheme_of(source) != "data"
    return decoded_base64(source, max_bytes=max_bytes) if is_base64 else source
