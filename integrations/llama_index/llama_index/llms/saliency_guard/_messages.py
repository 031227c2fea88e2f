"""Converts LlamaIndex's messages, blocks and nodes to the core's: images in every form, tool calls and results."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO, IOBase
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, Node
from PIL import Image
from pydantic import AnyUrl, BaseModel

from saliency_guard import ImageError, InputError, MessageError
from saliency_guard.adapters import (
    MAX_IMAGE_BYTES,
    MAX_TEXT,
    Documents,
    data_url_bytes,
    decoded_base64,
    fetched,
    file_of_url,
    is_remote,
    parse_json,
    read_file,
    require_messages,
    scheme_of,
    shown,
)
from saliency_guard.adapters import Fetch as FetchImage

Part = dict[str, Any]

_ROLES: dict[str, str] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}
_SKIPPED_BLOCKS = (CachePoint, ThinkingBlock)
_MAX_DEPTH = 8


class _Reader:
    """Reads the blocks of a chat or of a list of nodes.

    LlamaIndex's `ImageBlock.resolve_image` and `DocumentBlock.resolve_document` fetch any URL, so they are not used.

    Args:
        fetch_image: downloads the bytes behind an http(s) URL; None refuses such URLs.
    """

    def __init__(self, fetch_image: FetchImage | None) -> None:
        self._fetch = fetch_image
        self._documents = 0

    def message(self, message: ChatMessage) -> dict[str, Any]:
        blocks = _blocks(message)
        role = _ROLES.get(message.role) if isinstance(message.role, str) else None
        if role is None:
            msg = f"there is no role {shown(message.role)}"
            raise MessageError(msg)
        parts = [part for block in blocks for part in self.parts(block)]
        calls = list(_calls(message))
        converted: dict[str, Any] = {"role": role, "content": parts or ([] if calls else "")}
        if calls:
            converted["tool_calls"] = calls
        for key in ("tool_call_id", "name"):
            if message.additional_kwargs.get(key) is not None:
                converted[key] = message.additional_kwargs[key]
        return converted

    def parts(self, block: Any) -> Iterator[Part]:
        for leaf in _flat(block):
            if isinstance(leaf, TextBlock):
                yield {"type": "text", "text": leaf.text}
            elif isinstance(leaf, ImageBlock):
                yield {"type": "image", "image": self.picture(leaf.image, leaf.path, leaf.url)}
            elif isinstance(leaf, DocumentBlock):
                yield self._document(leaf)
            elif not isinstance(leaf, (*_SKIPPED_BLOCKS, ToolCallBlock)):
                msg = f"a {type(leaf).__name__} is not supported: this model takes text, images and text documents"
                raise MessageError(msg)

    def picture(self, image: Any, path: Any, url: Any) -> Any:
        """A picture in a form that the core loads: bytes (base64 or raw), else a path, else a URL."""
        if not _is_missing(image):
            return _content(image, "an ImageBlock's picture")
        if not _is_missing(path):
            return Path(path) if isinstance(path, str) else path
        target = _text_of(url)
        if not target:
            msg = "an ImageBlock has no picture: give it image=, path= or url="
            raise ImageError(msg)
        return fetched(target, self._fetch) if is_remote(target) else target

    def _document(self, block: DocumentBlock) -> Part:
        mime_type, name = _text_of(block.document_mimetype), f"document {shown(block.title)}"
        data = self._data(block, name)
        if mime_type.casefold().startswith("image/"):
            return {"type": "image", "image": data}
        if not data or len(data) > 4 * MAX_TEXT:
            msg = f"{name} {'is empty' if not data else f'has more than {MAX_TEXT} characters of text'}"
            raise MessageError(msg)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            msg = (
                f"{name} is not text ({mime_type or 'type unknown'}): this model takes text and images; convert its "
                "pages to images first"
            )
            raise MessageError(msg) from error
        self._documents += 1
        return {"type": "text", "text": text, "source": Documents.text_source(self._documents - 1)}

    def _data(self, block: DocumentBlock, name: str) -> bytes:
        url = _text_of(block.url)
        if not _is_missing(block.data):
            return _content(block.data, name)
        has_path = not _is_missing(block.path)
        if is_remote(url) and not has_path:
            return fetched(url, self._fetch)
        try:
            if has_path or scheme_of(url) == "file":
                path: Any = block.path if has_path else file_of_url(url)
                return read_file(path, max_bytes=MAX_IMAGE_BYTES, name=name)
            if scheme_of(url) == "data":
                head, _, rest = url.partition(",")
                return data_url_bytes(url) if head.strip().endswith(";base64") else unquote_to_bytes(rest)
        except InputError as error:
            raise MessageError(str(error)) from error
        msg = f"{name} has no readable content: give it data=, path=, or a data, file or http(s) url="
        raise MessageError(msg)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, bytes)) and not value)


def _text_of(value: Any) -> str:
    """A string or URL as a string; "" for anything else."""
    return str(value) if isinstance(value, (str, AnyUrl)) else ""


def _blocks(message: Any) -> list[Any]:
    if not isinstance(message, ChatMessage) or not isinstance(message.blocks, list):
        msg = f"{shown(message)} is not a ChatMessage with blocks"
        raise MessageError(msg)
    return message.blocks


def _flat(block: Any, depth: int = 0) -> Iterator[Any]:
    """A block, or the blocks nested in it."""
    if not isinstance(block, (CitableBlock, CitationBlock)):
        yield block
        return
    if depth == _MAX_DEPTH:
        msg = f"blocks are nested more than {_MAX_DEPTH} deep"
        raise MessageError(msg)
    for nested in block.nested_blocks:
        yield from _flat(nested, depth + 1)


def _content(data: Any, name: str) -> bytes:
    """The bytes of a block; base64 is decoded, as LlamaIndex does, and a file object is rewound after reading."""
    try:
        if isinstance(data, IOBase):
            data.seek(0)
            content = data.read(MAX_IMAGE_BYTES + 1)
            data.seek(0)
        else:
            content = data
    except (ValueError, OSError) as error:
        msg = f"{name} cannot be read: {error}"
        raise ImageError(msg) from error
    if not isinstance(content, bytes) or len(content) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        msg = f"{name} must be bytes, at most {MAX_IMAGE_BYTES}, not {shown(content)}"
        raise ImageError(msg)
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content


def to_core(messages: Sequence[ChatMessage], *, fetch_image: FetchImage | None = None) -> list[dict[str, Any]]:
    """Messages in the form that `saliency_guard.LVLM` takes.

    Args:
        messages: the messages of a chat.
        fetch_image: downloads the bytes behind an http(s) URL; None refuses such URLs.

    Raises:
        MessageError: for a block of a kind that a vision-language model does not take.
        ImageError: for a picture that is missing, or given by a URL that may not be fetched.
    """
    require_messages(messages, "ChatMessages")
    reader = _Reader(fetch_image)
    return [reader.message(message) for message in messages]


def node_parts(node: BaseNode, number: int, *, fetch_image: FetchImage | None = None) -> list[Part]:
    """The content of a retrieved node as parts of a message; its texts name their source.

    Args:
        node: a node; of an image node, the picture counts and not the index's description (`ImageNode.text`).
        number: index of the node among the documents.
        fetch_image: as for `to_core`.

    Raises:
        MessageError: if it has content that a vision-language model does not take.
        ImageError: for a picture that is missing, or given by a URL that may not be fetched.
    """
    reader = _Reader(fetch_image)
    if isinstance(node, ImageNode):  # Its `get_content_blocks` would fetch URLs.
        image = decoded_base64(node.image) if node.image else None
        return [{"type": "image", "image": reader.picture(image, node.image_path, node.image_url)}]
    try:
        blocks = node.get_content_blocks(MetadataMode.NONE)
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"node {number} cannot be read: {error}"
        raise MessageError(msg) from error
    parts = [part for block in blocks for part in reader.parts(block)]
    source = Documents.text_source(number)
    return [{**part, "source": source} if part["type"] == "text" else part for part in parts if part.get("text") != ""]


def image_block(picture: Any) -> ImageBlock:
    """A picture as a block.

    Args:
        picture: a block, a node, a document, a PIL image, bytes, a binary file, a path or a URL.

    Raises:
        ImageError: if it is none of these, or the file does not exist.
    """
    if isinstance(picture, ImageBlock):
        return picture
    image: Any = None
    path: Any = None
    url: Any = None
    if isinstance(picture, ImageNode):
        image = picture.image.encode() if picture.image else None
        path, url = picture.image_path, picture.image_url
    elif isinstance(picture, Node) and picture.image_resource is not None:
        image, path, url = picture.image_resource.data, picture.image_resource.path, picture.image_resource.url
    elif isinstance(picture, bytes):
        image = picture
    elif isinstance(picture, Image.Image):
        file = BytesIO()
        picture.save(file, "PNG")
        image = file.getvalue()
    elif isinstance(picture, IOBase):
        image = _read(picture)
    elif isinstance(picture, str) and scheme_of(picture) == "data":
        image = data_url_bytes(picture)
    elif isinstance(picture, str) and (is_remote(picture) or scheme_of(picture) == "file"):
        url = picture
    else:
        path = picture
    try:
        return ImageBlock(image=image, path=path, url=url)
    except ValueError as error:
        msg = f"{shown(picture)} is not a usable picture: {error}"
        raise ImageError(msg) from error


def _read(file: IOBase) -> bytes:
    """The bytes of a file object, one more than a picture may have at most."""
    data: Any = getattr(file, "read", lambda _: None)(MAX_IMAGE_BYTES + 1)
    if not isinstance(data, bytes):
        msg = f"{shown(file)} is not a binary file with a picture"
        raise ImageError(msg)
    return data


def has_picture(messages: Sequence[ChatMessage]) -> bool:
    """Whether the messages have a picture; nothing is loaded."""
    return any(_is_picture(leaf) for message in messages for block in _blocks(message) for leaf in _flat(block))


def _is_picture(block: Any) -> bool:
    mime_type = _text_of(block.document_mimetype) if isinstance(block, DocumentBlock) else ""
    return mime_type.casefold().startswith("image/") or isinstance(block, ImageBlock)


def _calls(message: ChatMessage) -> Iterator[Any]:
    """The tool calls of a message, from its blocks or OpenAI's dicts in `additional_kwargs`; the core checks them."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for block in blocks:
        function_call = {"name": block.tool_name, "arguments": _arguments(block.tool_kwargs)}
        yield {"type": "function", "id": block.tool_call_id, "function": function_call}
    openai_calls = None if blocks else message.additional_kwargs.get("tool_calls")
    if openai_calls is not None and not isinstance(openai_calls, (list, tuple)):
        msg = f"tool_calls must be a list, not {shown(openai_calls)}"
        raise MessageError(msg)
    for openai_call in openai_calls or ():
        call = openai_call.model_dump() if isinstance(openai_call, BaseModel) else openai_call
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            msg = f"a tool call must be {{'function': {{'name': ..., 'arguments': ...}}}}, not {shown(call)}"
            raise MessageError(msg)
        yield {
            "type": "function",
            "id": call.get("id"),
            "function": {**function, "arguments": _arguments(function.get("arguments"))},
        }


def _arguments(arguments: Any) -> Any:
    """Arguments as an object; a string that is not a JSON object is returned as it is."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    try:
        parsed = parse_json(arguments or "{}") if len(arguments) <= MAX_TEXT else arguments
    except ValueError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments
