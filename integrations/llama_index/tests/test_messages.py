"""Blocks and nodes to the core's parts: nothing is lost on the way, and nothing is fetched."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, TextNode

from llama_index.llms.saliency_guard._messages import has_picture, node_parts, to_core
from saliency_guard import ImageError, MessageError
from saliency_guard.chat.messages import parse_messages

DESK = Path(__file__).parents[3] / "examples" / "desk.png"
DATA = DESK.read_bytes()
B64 = base64.b64encode(DATA)


def user(*blocks: Any) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=list(blocks))]


@pytest.mark.parametrize(
    "block",
    [
        ImageBlock(image=DATA),
        ImageBlock(image=B64),
        ImageBlock(image=io.BytesIO(DATA)),
        ImageBlock(path=DESK),
        ImageBlock(url=DESK.as_uri()),
        ImageBlock(url=f"data:image/png;base64,{B64.decode()}"),
        ImageBlock(url=f"data:None;base64,{B64.decode()}"),
        DocumentBlock(data=DATA),
        DocumentBlock(path=DESK),
        CitableBlock(title="desk", source="here", content=[ImageBlock(path=DESK)]),
    ],
)
def test_every_form_of_a_picture(block: Any) -> None:
    messages = user(block, TextBlock(text="What is there?"))
    for _ in range(2):  # Reading a file object leaves it as it was.
        conversation = parse_messages(to_core(messages))
        assert [image.size for image in conversation.images] == [
            parse_messages(to_core(user(ImageBlock(path=DESK)))).images[0].size
        ]
    assert has_picture(messages)


def test_old_messages_with_pictures_beside_them() -> None:
    message = ChatMessage("Look.", additional_kwargs={"images": [ImageDocument(image_path=str(DESK))]})
    assert len(parse_messages(to_core([message])).images) == 1


def test_documents_are_sources() -> None:
    blocks = [DocumentBlock(data=b"The cat sat on the mat.", title="one"), DocumentBlock(data=b"A dog!", title="two")]
    (message,) = to_core(user(*blocks, TextBlock(text="Who sat?")))
    assert [part.get("source") for part in message["content"]] == ["document_1", "document_2", None]
    with pytest.raises(MessageError, match="is no text"):
        to_core(user(DocumentBlock(data=b"%PDF-1.7\n\xff\xfe", title="three")))
    with pytest.raises(ImageError, match="not fetched"):
        to_core(user(DocumentBlock(url="https://example.org/a.txt")))
    fetched = to_core(user(DocumentBlock(url="https://example.org/a.txt")), fetch_image=lambda url: url.encode())
    assert fetched[0]["content"][0]["text"] == "https://example.org/a.txt"


def test_roles_tools_and_silent_blocks() -> None:
    call = ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs={"where": "up"})
    written = {"id": "2", "type": "function", "function": {"name": "look", "arguments": '{"where": "down"}'}}
    found = to_core(
        [
            ChatMessage(role="developer", content="Be brief."),
            ChatMessage(role="assistant", blocks=[ThinkingBlock(content="Hm."), call]),
            ChatMessage(role="tool", content="nothing", additional_kwargs={"tool_call_id": "1", "name": "look"}),
            ChatMessage(role="model", additional_kwargs={"tool_calls": [written]}),
            ChatMessage(role="function", blocks=[ImageBlock(path=DESK)]),
            ChatMessage(role="user", blocks=[CachePoint(cache_control={"type": "ephemeral"})]),
        ]
    )
    assert [one["role"] for one in found] == ["system", "assistant", "tool", "assistant", "tool", "user"]
    assert found[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"where": "up"}}
    assert found[2]["tool_call_id"] == "1"
    assert found[3]["tool_calls"][0]["function"]["arguments"] == {"where": "down"}
    assert found[4]["content"][0]["type"] == "image"
    assert found[5]["content"] == ""


def test_what_cannot_be_looked_at() -> None:
    with pytest.raises(MessageError, match="AudioBlock"):
        to_core(user(AudioBlock(audio=b"abc")))
    with pytest.raises(ImageError, match="has no picture"):
        to_core(user(ImageBlock()))
    with pytest.raises(ImageError, match="fetch_image"):
        to_core(user(ImageBlock(url="https://example.org/cat.png")))


@pytest.mark.parametrize(
    "node",
    [
        ImageNode(image_path=str(DESK), text="a caption that says zebra"),
        ImageNode(image=B64.decode(), metadata={"file": "desk.png"}),
        Node(image_resource=MediaResource(path=DESK)),
        Node(image_resource=MediaResource(data=DATA)),
    ],
)
def test_nodes_with_pictures(node: Any) -> None:
    parts = node_parts(node, 0)
    assert [part["type"] for part in parts] == ["image"]
    assert len(parse_messages([{"role": "user", "content": parts}]).images) == 1


def test_nodes_with_text() -> None:
    assert node_parts(TextNode(text="A cat."), 2) == [{"type": "text", "text": "A cat.", "source": "document_3"}]
    both = Node(text_resource=MediaResource(text="A desk."), image_resource=MediaResource(path=DESK))
    assert [part["type"] for part in node_parts(both, 0)] == ["text", "image"]
    with pytest.raises(ImageError, match="not fetched"):
        node_parts(ImageNode(image_url="https://example.org/cat.png"), 0)
