"""Chat messages in; images loaded safely.

Messages have the shape that transformers' chat templates take: a list of dicts with ``role`` and
``content``, the content a string or a list of parts. A part is text, or an image as a PIL picture, an array, a
path, bytes, a base64 string (under ``"base64"``) or a data URL. Nothing is ever fetched from the network.
A message of the assistant may have ``tool_calls``, and one of the role ``tool`` is the result of one.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from saliency_guard.errors import ImageError, MessageError

MAX_IMAGE_PIXELS = 50_000_000
"""Images with more pixels are refused before they are decoded."""

_ROLES = ("system", "user", "assistant", "tool")
_KEPT = ("tool_calls", "tool_call_id", "name")
_IMAGE_KEYS = ("image", "path", "url", "base64", "data")
_DATA_URL = re.compile(r"data:image/[\w.+-]+(;[^;,]+)*;base64,(?P<data>.+)", re.DOTALL)
_SPAN_NAME = re.compile(r"[A-Za-z][\w.-]*")
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


def chat(image: Any, question: str) -> list[dict[str, Any]]:
    """One user message with one image, in any form `parse_messages` takes, and a question about it."""
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]


def parse_messages(
    messages: Sequence[Mapping[str, Any]], *, max_pixels: int = MAX_IMAGE_PIXELS, require_image: bool = True
) -> Conversation:
    """Check messages and load their images.

    Args:
        messages: chat messages; a text part may name its source: ``{"type": "text", "text": ...,
            "source": "document_1"}``.
        max_pixels: the most pixels an image may have.
        require_image: whether a conversation without any image is refused.

    Raises:
        MessageError: if there is no message, or one is malformed.
        ImageError: if an image is missing, unreadable, too large, or of an unknown kind.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
        msg = f"messages must be a list of {{'role', 'content'}} dicts, not {type(messages).__name__}"
        raise MessageError(msg)
    if not messages:
        msg = "the list of messages is empty: give at least one user message"
        raise MessageError(msg)
    images: list[Image.Image] = []
    texts: list[TextPart] = []
    checked: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in _ROLES:
            msg = f"message {number} has role {role!r}; roles are {', '.join(_ROLES)}"
            raise MessageError(msg)
        kept = {key: message[key] for key in _KEPT if message.get(key)}
        only_calls = "tool_calls" in kept and not message.get("content")
        parts = (
            [] if only_calls else [_part(part, number, max_pixels) for part in _parts(message.get("content"), number)]
        )
        for part in parts:
            if part["type"] == "image":
                images.append(part["image"])
            else:
                source = part.pop("source", "system" if role == "system" else None)
                texts.append(TextPart(source, part["text"]))
        checked.append({"role": role, "content": parts, **kept})
    if require_image and not images:
        msg = (
            "there is no image in the messages: add {'type': 'image', 'image': <picture or path>} to a user "
            "message's content, or allow text alone with LVLM(..., require_image=False)"
        )
        raise ImageError(msg)
    return Conversation(tuple(checked), tuple(images), tuple(texts))


def _parts(content: Any, number: int) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray)) and len(content) > 0:
        return list(content)
    msg = f"message {number} has no content: it must be a string or a non-empty list of parts"
    raise MessageError(msg)


def _part(part: Any, number: int, max_pixels: int) -> dict[str, Any]:
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        source = part.get("source")
        _check_text(part["text"], number)
        if source is None:
            return {"type": "text", "text": part["text"]}
        if not isinstance(source, str) or not _SPAN_NAME.fullmatch(source) or _RESERVED.fullmatch(source):
            msg = f"message {number}: {source!r} cannot name a source (letters, digits, _ . -; not output or image_0)"
            raise MessageError(msg)
        return {"type": "text", "text": part["text"], "source": source}
    if kind == "image_url":
        target = part.get("image_url")
        target = target.get("url") if isinstance(target, Mapping) else target
        return {"type": "image", "image": load_image(target, max_pixels=max_pixels)}
    if kind == "image":
        given = [(key, part[key]) for key in _IMAGE_KEYS if part.get(key) is not None]
        if not given:
            msg = f"message {number} has an image part without an image: put it under 'image'"
            raise ImageError(msg)
        key, source = given[0]
        if key in {"base64", "data"} and isinstance(source, str) and not source.startswith("data:"):
            source = _decoded(source)
        return {"type": "image", "image": load_image(source, max_pixels=max_pixels)}
    msg = f"message {number} has a part of unknown type {kind!r}; types are 'text' and 'image'"
    raise MessageError(msg)


def _check_text(text: str, number: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"message {number} holds text that cannot be written in UTF-8: {error}"
        raise MessageError(msg) from error


def load_image(source: Any, *, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """An RGB picture from a PIL picture, a path, bytes, a base64 string or a data URL.

    Turned as its EXIF orientation says; transparency is laid on white.

    Raises:
        ImageError: if the source is none of these, cannot be read, or has more than ``max_pixels``.
    """
    try:
        picture = _open(source)
        width, height = picture.size
        if width * height > max_pixels:
            msg = f"image of {width} x {height} pixels is over the limit of {max_pixels}: scale it down first"
            raise ImageError(msg)
        if width == 0 or height == 0:
            msg = f"image of {width} x {height} pixels is empty"
            raise ImageError(msg)
        turned = _eight_bits(ImageOps.exif_transpose(picture))
        if turned.has_transparency_data:
            rgba = turned.convert("RGBA")
            turned = Image.new("RGB", rgba.size, "white")
            turned.paste(rgba, mask=rgba.getchannel("A"))
        return turned.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        msg = f"image is over the limit of {max_pixels} pixels: {error}"
        raise ImageError(msg) from error
    except UnidentifiedImageError as error:
        msg = f"{_named(source)} is no image in a format that Pillow reads"
        raise ImageError(msg) from error
    except (OSError, SyntaxError, TypeError, ValueError, RuntimeError, EOFError) as error:
        if isinstance(error, ImageError):
            raise
        msg = f"{_named(source)} cannot be read as an image: {error}"
        raise ImageError(msg) from error


def _open(source: Any) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Image.open(io.BytesIO(bytes(source)))
    if isinstance(source, Path):
        return _from_path(source)
    if hasattr(source, "__array_interface__"):
        return Image.fromarray(source)
    if not isinstance(source, str):
        msg = f"an image cannot be made of {type(source).__name__}: give a PIL picture, a path, bytes or a data URL"
        raise ImageError(msg)
    if source.startswith("data:"):
        match = _DATA_URL.fullmatch(source.strip())
        if match is None:
            msg = "the data URL holds no base64 image: data:image/png;base64,..."
            raise ImageError(msg)
        return Image.open(io.BytesIO(_decoded(match["data"])))
    if source.startswith(("http://", "https://")):
        msg = f"{source[:80]!r} is not fetched: download the image and pass its bytes or path"
        raise ImageError(msg)
    if source.startswith("file:"):
        return _from_path(Path(unquote(urlparse(source).path)))
    if len(source) > 1024:  # longer than any path: base64
        return Image.open(io.BytesIO(_decoded(source)))
    return _from_path(Path(source))


def _from_path(path: Path) -> Image.Image:
    if not path.is_file():
        msg = f"there is no image file {str(path)!r}"
        raise ImageError(msg)
    # Read whole, so that no file stays open behind a picture that is decoded later.
    return Image.open(io.BytesIO(path.read_bytes()))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pillow clips wider pixels to 255 instead of scaling them: scale 16 bits, refuse what has no known range."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in {"I", "F"}:
        msg = f"image has {picture.mode!r} pixels of unknown range: convert it to 8 bits first"
        raise ImageError(msg)
    return picture


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=False)
    except binascii.Error as error:
        msg = f"the image's base64 data is damaged: {error}"
        raise ImageError(msg) from error


def _named(source: Any) -> str:
    return (
        repr(source[:80]) if isinstance(source, str) else str(source)[:80] if isinstance(source, Path) else "the image"
    )
