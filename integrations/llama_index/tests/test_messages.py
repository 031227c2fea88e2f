"""Blocks and nodes to the core's parts: nothing is lost on the way, and nothing is fetched."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, TextNode
from PIL import Image

from llama_index.llms.saliency_guard._messages import has_picture, image_block, node_parts, to_core
from saliency_guard import ImageError, InputError, MessageError
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
    with pytest.raises(MessageError, match="is not text"):
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
    assert [item["role"] for item in found] == ["system", "assistant", "tool", "assistant", "tool", "user"]
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


REMOTE = [
    "http://127.0.0.1:9/cat.png",
    "HTTP://127.0.0.1:9/cat.png",
    "hTtP://127.0.0.1:9/cat.png",
    " http://127.0.0.1:9/cat.png",
    "\thttp://127.0.0.1:9/cat.png",
    "ht\ntp://127.0.0.1:9/cat.png",
    "HTTPS://localhost/cat.png",
]


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What LlamaIndex, or anything else, asks `requests` or a socket for."""
    asked: list[str] = []

    def get(url: str, *_: Any, **__: Any) -> Any:
        asked.append(url)
        msg = "this was to be fetched"
        raise AssertionError(msg)

    monkeypatch.setattr("requests.get", get)
    monkeypatch.setattr("requests.sessions.Session.request", get)
    monkeypatch.setattr("socket.create_connection", get)
    monkeypatch.setattr("socket.getaddrinfo", get)
    return asked


def unchecked(kind: Any, **fields: Any) -> Any:
    """A block whose fields pydantic did not look at."""
    return kind.model_construct(**fields)


def blocks_of(url: str) -> list[Any]:
    image = unchecked(ImageBlock, image=None, path=None, url=url, image_mimetype="image/png", detail=None)
    document = DocumentBlock(url=url, document_mimetype="image/png")
    text = DocumentBlock(url=url, document_mimetype="text/plain")
    location: dict[str, int] = {}
    return [
        image,
        document,
        text,
        unchecked(DocumentBlock, data=None, path=url, url=None, title="t", document_mimetype="image/png"),
        unchecked(ImageBlock, image=None, path=url, url=None, image_mimetype=None, detail=None),
        *(
            unchecked(CitableBlock, title="t", source="s", content=[TextBlock(text="x"), item])
            for item in (image, document)
        ),
        unchecked(CitationBlock, title="t", source="s", cited_content=image, additional_location_info=location),
        unchecked(
            CitableBlock,
            title="t",
            source="s",
            content=[unchecked(CitableBlock, title="t", source="s", content=[text])],
        ),
    ]


@pytest.mark.parametrize("url", REMOTE)
def test_nothing_is_fetched_from_any_block(url: str, fetches: list[str]) -> None:
    for block in blocks_of(url):
        with pytest.raises(InputError):
            parse_messages(to_core(user(block)))
    for node in (ImageNode(image_url=url), ImageNode(image_url=url, text="a caption")):
        with pytest.raises(ImageError, match="not fetched"):
            node_parts(node, 0)
    assert fetches == []


def test_urls_of_blocks_as_they_are_made_are_not_fetched(fetches: list[str]) -> None:
    for url in ("HTTP://127.0.0.1:9/a.png", " http://127.0.0.1:9/a.png", "https://127.0.0.1/a.png"):
        for block in (ImageBlock(url=url), CitableBlock(title="t", source="s", content=[ImageBlock(url=url)])):
            with pytest.raises(ImageError, match="fetch_image"):
                to_core(user(block))
            assert has_picture(user(block))
    for other in ("ftp://127.0.0.1/a.png", "gopher://127.0.0.1/a", "file://evil.net/a.png"):
        with pytest.raises(ImageError, match=r"not fetched|another machine"):
            parse_messages(to_core(user(ImageBlock(url=other))))
        with pytest.raises(MessageError, match=r"no readable content|another machine"):
            to_core(user(DocumentBlock(url=other)))
    with pytest.raises(ImageError, match="not fetched"):
        node_parts(Node(image_resource=MediaResource(url="HTTP://127.0.0.1:9/a.png")), 0)
    assert fetches == []


def test_what_is_told_to_fetch_is_asked_for_every_url(fetches: list[str]) -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return DATA

    for url in REMOTE:
        for block in blocks_of(url)[:2]:
            assert len(parse_messages(to_core(user(block), fetch_image=fetch)).images) == 1
    assert len(asked) == 2 * len(REMOTE)
    assert fetches == []
    with pytest.raises(ImageError, match="is to give bytes"):
        to_core(user(ImageBlock(url="https://example.org/a.png")), fetch_image=lambda _: str(DESK))  # type: ignore[arg-type,return-value]


def test_documents_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("A cat.")
    for block in (
        DocumentBlock(path=path),
        DocumentBlock(path=str(path)),
        DocumentBlock(url=path.as_uri()),
        DocumentBlock(data=b"A cat."),
        DocumentBlock(data=base64.b64encode(b"A cat.")),
        DocumentBlock(data=io.BytesIO(b"A cat.")),
        DocumentBlock(url=f"data:text/plain;base64,{base64.b64encode(b'A cat.').decode()}"),
        DocumentBlock(url="data:text/plain,A%20cat."),
    ):
        assert to_core(user(block))[0]["content"][0]["text"] == "A cat."


def test_files_are_read_with_care(tmp_path: Path) -> None:
    fifo, large, empty = tmp_path / "fifo.png", tmp_path / "large.png", tmp_path / "empty.txt"
    os.mkfifo(fifo)
    empty.touch()
    large.touch()
    os.truncate(large, 40 * 2**30)
    for path in (fifo, large, Path("/dev/zero"), tmp_path):
        for block in (
            DocumentBlock(path=str(path), document_mimetype="text/plain"),
            DocumentBlock(path=str(path), document_mimetype="image/png"),
            DocumentBlock(url=path.as_uri()),
            unchecked(ImageBlock, image=None, path=path, url=None),
            ImageBlock(url=path.as_uri()),
        ):
            with pytest.raises(InputError, match="cannot read"):
                parse_messages(to_core(user(block)))
    with pytest.raises(MessageError, match="is empty"):
        to_core(user(DocumentBlock(path=empty)))


CLOSED = io.BytesIO(DATA)
CLOSED.close()


@pytest.mark.parametrize(
    "block",
    [
        None,
        7,
        "text",
        {"block_type": "text"},
        unchecked(TextBlock, text=None),
        unchecked(TextBlock, text=7),
        unchecked(ImageBlock, image=7, path=None, url=None),
        unchecked(ImageBlock, image="text", path=None, url=None),
        unchecked(ImageBlock, image=None, path=7, url=None),
        unchecked(ImageBlock, image=None, path=["a"], url=None),
        unchecked(ImageBlock, image=None, path=None, url=7),
        unchecked(ImageBlock, image=None, path="no/such.png", url=None),
        unchecked(ImageBlock, image=b"no picture", path=None, url=None),
        unchecked(ImageBlock, image=io.StringIO("x"), path=None, url=None),
        unchecked(ImageBlock, image=CLOSED, path=None, url=None),
        ImageBlock(url="data:image/png,abc"),
        ImageBlock(url="data:image/png;base64,A"),
        ImageBlock(url="x:y"),
        unchecked(DocumentBlock, data=7, path=None, url=None, title=None, document_mimetype=7),
        unchecked(DocumentBlock, data=None, path=7, url=None, title=None, document_mimetype=None),
        unchecked(DocumentBlock, data=None, path=None, url=7, title=None, document_mimetype=None),
        unchecked(DocumentBlock, data=None, path=None, url=None, title=None, document_mimetype=None),
        DocumentBlock(url="data:text/plain;base64"),
        DocumentBlock(url="data:image/png;base64,A"),
        DocumentBlock(path="no/such.txt"),
        DocumentBlock(data=b"x", document_mimetype="image/x-unknown; charset=\xff"),
        unchecked(CitableBlock, title="t", source="s", content=None),
        unchecked(CitableBlock, title="t", source="s", content=7),
        unchecked(ToolCallBlock, tool_call_id=7, tool_name=None, tool_kwargs=None),
        unchecked(ToolCallBlock, tool_call_id="1", tool_name="look", tool_kwargs=[1]),
        unchecked(ToolCallBlock, tool_call_id="1", tool_name="look", tool_kwargs={"a": object()}),
        unchecked(ToolCallBlock, tool_call_id="1", tool_name="look", tool_kwargs="[" * 100_000 + "\ud800"),
    ],
    ids=range(32),
)
def test_blocks_of_wrong_shapes_are_errors_of_ours(block: Any) -> None:
    messages = [ChatMessage.model_construct(role="assistant", blocks=[block], additional_kwargs={})]
    with pytest.raises(InputError):
        parse_messages(to_core(messages), require_image=False)


def test_blocks_in_themselves_are_an_error_of_ours() -> None:
    block = unchecked(CitableBlock, title="t", source="s", content=[])
    block.content.append(block)
    with pytest.raises(MessageError, match="nested"):
        to_core([ChatMessage.model_construct(role="user", blocks=[block], additional_kwargs={})])


@pytest.mark.parametrize(
    "messages",
    [
        None,
        7,
        [None],
        ["hello"],
        [{"role": "user", "content": "x"}],
        [ChatMessage.model_construct(role="robot", blocks=[], additional_kwargs={})],
        [ChatMessage.model_construct(role="user", blocks=None, additional_kwargs={})],
        [ChatMessage(role="assistant", additional_kwargs={"tool_calls": 7})],
        [ChatMessage(role="assistant", additional_kwargs={"tool_calls": [7]})],
        [ChatMessage(role="assistant", additional_kwargs={"tool_calls": [{"function": "look"}]})],
        [ChatMessage(role="assistant", additional_kwargs={"tool_calls": [{"function": {"name": 7}}]})],
        [
            ChatMessage(
                role="assistant", additional_kwargs={"tool_calls": [{"function": {"name": "a", "arguments": 7}}]}
            )
        ],
        [ChatMessage(role="tool", content="x", additional_kwargs={"name": 7})],
        [ChatMessage(role="user", content="x")] * 5000,
    ],
    ids=range(14),
)
def test_messages_of_wrong_shapes_are_errors_of_ours(messages: Any) -> None:
    with pytest.raises(MessageError):
        parse_messages(to_core(messages), require_image=False)


def test_pictures_as_blocks(tmp_path: Path) -> None:
    for picture in (
        ImageBlock(path=DESK),
        ImageNode(image_path=str(DESK)),
        ImageNode(image=B64.decode()),
        ImageDocument(image_path=str(DESK)),
        Node(image_resource=MediaResource(data=DATA)),
        DATA,
        DESK,
        str(DESK),
        ImageDocument(image=B64.decode()),
        Image.open(DESK),
        io.BytesIO(DATA),
        f"data:image/png;base64,{B64.decode()}",
        DESK.as_uri(),
    ):
        assert len(parse_messages(to_core(user(image_block(picture)))).images) == 1
    for wrong in (
        None,
        7,
        [1],
        io.StringIO("x"),
        tmp_path / "none.png",
        "https://example.org/a.png",
        TextNode(text="x"),
    ):
        with pytest.raises(ImageError):
            to_core(user(image_block(wrong)))


def test_nodes_of_wrong_shapes_are_errors_of_ours() -> None:
    for node in (
        ImageNode(),
        ImageNode(image_path="no/such.png"),
        ImageNode(image="ü"),
        Node(image_resource=MediaResource(path=Path("no/such.png"))),
        Node.model_construct(image_resource=7, text_resource=None, audio_resource=None, video_resource=None),
    ):
        with pytest.raises(InputError):
            parse_messages([{"role": "user", "content": node_parts(node, 0)}])
