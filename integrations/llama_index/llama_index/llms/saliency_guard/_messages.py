"""LlamaIndex's messages, blocks and nodes to the core's: pictures in every form, calls of tools and their results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

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
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode

from saliency_guard import ImageError, MessageError
from saliency_guard.adapters.citations import Documents

FetchImage = Callable[[str], bytes]
Part = dict[str, Any]

_ROLES = {
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


class _Reader:
    """Reads the blocks of one chat, or of one list of nodes.

    Args:
        fetch_image: gets the bytes behind an http(s) URL; None refuses such URLs.
    """

    def __init__(self, fetch_image: FetchImage | None) -> None:
        self._fetch = fetch_image
        self._documents = 0

    def message(self, message: ChatMessage) -> dict[str, Any]:
        found: dict[str, Any] = {"role": _ROLES[message.role]}
        parts = [part for block in message.blocks for part in self.parts(block)]
        calls = list(_calls(message))
        found["content"] = parts or ([] if calls else "")
        if calls:
            found["tool_calls"] = calls
        for key in ("tool_call_id", "name"):
            if message.additional_kwargs.get(key):
                found[key] = message.additional_kwargs[key]
        return found

    def parts(self, block: Any) -> Iterator[Part]:
        if isinstance(block, TextBlock):
            yield {"type": "text", "text": block.text}
        elif isinstance(block, ImageBlock):
            yield {"type": "image", "image": self._image(block)}
        elif isinstance(block, DocumentBlock):
            yield self._document(block)
        elif isinstance(block, (CitableBlock, CitationBlock)):
            for nested in block.nested_blocks:
                yield from self.parts(nested)
        elif not isinstance(block, (*_SILENT, ToolCallBlock)):
            msg = f"a {type(block).__name__} cannot be looked at: this model takes text, images and text documents"
            raise MessageError(msg)

    def _image(self, block: ImageBlock) -> Any:
        url = str(block.url or "")
        if block.image is None and block.path is not None:
            return block.path
        if block.image is None and url.startswith(("http://", "https://")):
            return self._fetched(url)
        if block.image is None and not url:
            msg = "an ImageBlock has no picture: give it image=, path= or url="
            raise ImageError(msg)
        if block.image is None and not url.startswith("data:"):
            return url
        try:
            return block.resolve_image().read()
        except (ValueError, OSError) as error:
            msg = f"an ImageBlock's picture cannot be read: {error}"
            raise ImageError(msg) from error

    def _fetched(self, url: str) -> bytes:
        if self._fetch is None:
            msg = (
                f"{url[:80]!r} is not fetched: pass the picture's bytes or path, or fetch_image=..., a function from "
                "a URL to bytes"
            )
            raise ImageError(msg)
        return self._fetch(url)

    def _document(self, block: DocumentBlock) -> Part:
        kind = block.document_mimetype or ""
        url = str(block.url or "")
        if block.data is None and block.path is None and url.startswith(("http://", "https://")):
            data = self._fetched(url)
        else:
            try:
                data = block.resolve_document().read()
            except (ValueError, OSError) as error:
                msg = f"document {block.title!r} cannot be read: {error}"
                raise MessageError(msg) from error
        if kind.startswith("image/"):
            return {"type": "image", "image": data}
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            msg = (
                f"document {block.title!r} is no text ({kind or 'of unknown type'}): this model takes text and "
                "images; convert its pages to images first"
            )
            raise MessageError(msg) from error
        self._documents += 1
        return {"type": "text", "text": text, "source": Documents.text_source(self._documents - 1)}


def to_core(messages: Sequence[ChatMessage], *, fetch_image: FetchImage | None = None) -> list[dict[str, Any]]:
    """Messages as `saliency_guard.LVLM` takes them.

    Args:
        messages: of a chat.
        fetch_image: gets the bytes behind an http(s) URL; None refuses such URLs.

    Raises:
        MessageError: for a block of a kind that a vision-language model does not take.
        ImageError: for a picture that is not there, or would have to be fetched.
    """
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
    if isinstance(node, ImageNode):
        image = None if node.image is None else node.image.encode()
        blocks: Sequence[Any] = [ImageBlock(image=image, path=node.image_path, url=node.image_url)]
    else:
        blocks = node.get_content_blocks(MetadataMode.NONE)
    reader = _Reader(fetch_image)
    parts = [part for block in blocks for part in reader.parts(block)]
    source = Documents.text_source(number)
    return [{**part, "source": source} if part["type"] == "text" else part for part in parts if part.get("text") != ""]


def has_picture(messages: Sequence[ChatMessage]) -> bool:
    """Whether there is a picture for an answer to rest on; nothing is loaded."""
    return any(_is_picture(block) for message in messages for block in message.blocks)


def _is_picture(block: Any) -> bool:
    if isinstance(block, (CitableBlock, CitationBlock)):
        return any(map(_is_picture, block.nested_blocks))
    is_image = isinstance(block, DocumentBlock) and (block.document_mimetype or "").startswith("image/")
    return is_image or isinstance(block, ImageBlock)


def _calls(message: ChatMessage) -> Iterator[dict[str, Any]]:
    """The calls of tools in a message: as blocks, or as OpenAI's dicts beside them."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for block in blocks:
        function = {"name": block.tool_name, "arguments": _arguments(block.tool_kwargs)}
        yield {"type": "function", "id": block.tool_call_id, "function": function}
    for call in () if blocks else message.additional_kwargs.get("tool_calls") or ():
        given = call if isinstance(call, Mapping) else call.model_dump()
        function = {**given["function"], "arguments": _arguments(given["function"].get("arguments"))}
        yield {"type": "function", "id": given.get("id"), "function": function}


def _arguments(given: Any) -> Any:
    """Arguments as an object; a text that is no JSON stays one."""
    if not isinstance(given, str):
        return given or {}
    try:
        return json.loads(given or "{}")
    except json.JSONDecodeError:
        return given
