"""LlamaIndex's messages, blocks and nodes to the core's: pictures in every form, calls of tools and their results."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from io import IOBase
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
from pydantic import AnyUrl, BaseModel

from saliency_guard import ImageError, InputError, MessageError
from saliency_guard.adapters import (
    MAX_IMAGE_BYTES,
    MAX_MESSAGES,
    MAX_TEXT,
    Documents,
    data_url_bytes,
    decoded_base64,
    fetched,
    file_of_url,
    is_remote,
    parse_json,
    read_file,
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
_SILENT = (CachePoint, ThinkingBlock)
_DEEPEST = 8


class _Reader:
    """Reads the blocks of one chat, or of one list of nodes.

    LlamaIndex's own ways to read a block (`ImageBlock.resolve_image`, `DocumentBlock.resolve_document`) fetch what lies
    behind any URL: they are not used.

    Args:
        fetch_image: gets the bytes behind an http(s) URL; None refuses such URLs.
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
        found: dict[str, Any] = {"role": role, "content": parts or ([] if calls else "")}
        if calls:
            found["tool_calls"] = calls
        for key in ("tool_call_id", "name"):
            if message.additional_kwargs.get(key) is not None:
                found[key] = message.additional_kwargs[key]
        return found

    def parts(self, block: Any) -> Iterator[Part]:
        for plain in _flat(block):
            if isinstance(plain, TextBlock):
                yield {"type": "text", "text": plain.text}
            elif isinstance(plain, ImageBlock):
                yield {"type": "image", "image": self.picture(plain.image, plain.path, plain.url)}
            elif isinstance(plain, DocumentBlock):
                yield self._document(plain)
            elif not isinstance(plain, (*_SILENT, ToolCallBlock)):
                msg = f"a {type(plain).__name__} cannot be looked at: this model takes text, images and text documents"
                raise MessageError(msg)

    def picture(self, image: Any, path: Any, url: Any) -> Any:
        """A picture in a form that the core loads: bytes (base64 or as they are), else a path, else a URL."""
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
        kind, named = _text_of(block.document_mimetype), f"document {shown(block.title)}"
        data = self._data(block, named)
        if kind.casefold().startswith("image/"):
            return {"type": "image", "image": data}
        if not data or len(data) > 4 * MAX_TEXT:
            msg = f"{named} {'is empty' if not data else f'has more than {MAX_TEXT} characters of text'}"
            raise MessageError(msg)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            msg = (
                f"{named} is no text ({kind or 'of unknown type'}): this model takes text and images; convert its "
                "pages to images first"
            )
            raise MessageError(msg) from error
        self._documents += 1
        return {"type": "text", "text": text, "source": Documents.text_source(self._documents - 1)}

    def _data(self, block: DocumentBlock, named: str) -> bytes:
        url = _text_of(block.url)
        if not _is_missing(block.data):
            return _content(block.data, named)
        has_path = not _is_missing(block.path)
        if is_remote(url) and not has_path:
            return fetched(url, self._fetch)
        try:
            if has_path or scheme_of(url) == "file":
                path: Any = block.path if has_path else file_of_url(url)
                return read_file(path, max_bytes=MAX_IMAGE_BYTES, name=named)
            if scheme_of(url) == "data":
                head, _, rest = url.partition(",")
                return data_url_bytes(url) if head.strip().endswith(";base64") else unquote_to_bytes(rest)
        except InputError as error:
            raise MessageError(str(error)) from error
        msg = f"{named} has nothing that can be read: give it data=, path=, or a data, file or http(s) url="
        raise MessageError(msg)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, bytes)) and not value)


def _text_of(value: Any) -> str:
    """A text or a URL as a text; anything else is none."""
    return str(value) if isinstance(value, (str, AnyUrl)) else ""


def _blocks(message: Any) -> list[Any]:
    if not isinstance(message, ChatMessage) or not isinstance(message.blocks, list):
        msg = f"{shown(message)} is no ChatMessage with blocks"
        raise MessageError(msg)
    return message.blocks


def _flat(block: Any, depth: int = 0) -> Iterator[Any]:
    """A block, or those in it."""
    if not isinstance(block, (CitableBlock, CitationBlock)):
        yield block
        return
    if depth == _DEEPEST:
        msg = f"blocks are nested more than {_DEEPEST} deep"
        raise MessageError(msg)
    for nested in block.nested_blocks:
        yield from _flat(nested, depth + 1)


def _content(given: Any, named: str) -> bytes:
    """The bytes of a block: base64 is decoded, as LlamaIndex does; a file object is left as it was."""
    try:
        if isinstance(given, IOBase):
            given.seek(0)
            content = given.read(MAX_IMAGE_BYTES + 1)
            given.seek(0)
        else:
            content = given
    except (ValueError, OSError) as error:
        msg = f"{named} cannot be read: {error}"
        raise ImageError(msg) from error
    if not isinstance(content, bytes) or len(content) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        msg = f"{named} must be bytes, at most {MAX_IMAGE_BYTES}, not {shown(content)}"
        raise ImageError(msg)
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content


def to_core(messages: Sequence[ChatMessage], *, fetch_image: FetchImage | None = None) -> list[dict[str, Any]]:
    """Messages as `saliency_guard.LVLM` takes them.

    Args:
        messages: of a chat.
        fetch_image: gets the bytes behind an http(s) URL; None refuses such URLs.

    Raises:
        MessageError: for a block of a kind that a vision-language model does not take.
        ImageError: for a picture that is not there, or would have to be fetched.
    """
    if not isinstance(messages, Sequence) or len(messages) > MAX_MESSAGES:
        msg = f"messages must be a list of ChatMessages, at most {MAX_MESSAGES}, not {shown(messages)}"
        raise MessageError(msg)
    reader = _Reader(fetch_image)
    return [reader.message(message) for message in messages]


def node_parts(node: BaseNode, number: int, *, fetch_image: FetchImage | None = None) -> list[Part]:
    """What a retrieved node shows, as parts of a message; its texts name their source.

    Args:
        node: its picture counts, not what an index says of the picture (`ImageNode.text`).
        number: of the node among the documents, from 0.
        fetch_image: as for `to_core`.

    Raises:
        MessageError: if it holds what a vision-language model does not take.
        ImageError: for a picture that is not there, or would have to be fetched.
    """
    reader = _Reader(fetch_image)
    if isinstance(node, ImageNode):  # Asked for its blocks, it would fetch.
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
        picture: a block, a node, a document, bytes or a path.

    Raises:
        ImageError: if it is none of these, or there is no such file.
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
    else:
        path = picture
    try:
        return ImageBlock(image=image, path=path, url=url)
    except ValueError as error:
        msg = f"{shown(picture)} is no picture that can be looked at: {error}"
        raise ImageError(msg) from error


def has_picture(messages: Sequence[ChatMessage]) -> bool:
    """Whether there is a picture for an answer to rest on; nothing is loaded."""
    return any(_is_picture(plain) for message in messages for block in _blocks(message) for plain in _flat(block))


def _is_picture(block: Any) -> bool:
    kind = _text_of(block.document_mimetype) if isinstance(block, DocumentBlock) else ""
    return kind.casefold().startswith("image/") or isinstance(block, ImageBlock)


def _calls(message: ChatMessage) -> Iterator[Any]:
    """The calls of tools in a message: as blocks, or as OpenAI's dicts beside them; the core checks them."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for block in blocks:
        named = {"name": block.tool_name, "arguments": _arguments(block.tool_kwargs)}
        yield {"type": "function", "id": block.tool_call_id, "function": named}
    beside = None if blocks else message.additional_kwargs.get("tool_calls")
    if beside is not None and not isinstance(beside, (list, tuple)):
        msg = f"tool_calls must be a list, not {shown(beside)}"
        raise MessageError(msg)
    for call in beside or ():
        given = call.model_dump() if isinstance(call, BaseModel) else call
        function = given.get("function") if isinstance(given, Mapping) else None
        if not isinstance(function, Mapping):
            msg = f"a call of a tool must be {{'function': {{'name': ..., 'arguments': ...}}}}, not {shown(given)}"
            raise MessageError(msg)
        yield {
            "type": "function",
            "id": given.get("id"),
            "function": {**function, "arguments": _arguments(function.get("arguments"))},
        }


def _arguments(given: Any) -> Any:
    """Arguments as an object; a text that is no JSON object stays one."""
    if not isinstance(given, str):
        return {} if given is None else given
    try:
        parsed = parse_json(given or "{}") if len(given) <= MAX_TEXT else given
    except ValueError:
        return given
    return parsed if isinstance(parsed, dict) else given
