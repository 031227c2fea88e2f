from __future__ import annotations

import base64
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saliency_guard import ImageError, MessageError
from saliency_guard.chat.images import load_image
from saliency_guard.chat.limits import MAX_IMAGES, MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from saliency_guard.chat.messages import parse_messages


def png(size: tuple[int, int] = (6, 4), mode: str = "RGB", colour: Any = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a picture.png"
    file.write_bytes(png())
    return file


def test_images_in_every_form(path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    forms = [
        {"type": "image", "image": Image.new("L", (6, 4))},
        {"type": "image", "image": np.zeros((4, 6, 3), dtype=np.uint8)},
        {"type": "image", "image": path},
        {"type": "image", "image": str(path)},
        {"type": "image", "path": str(path)},
        {"type": "image", "url": path.as_uri()},
        {"type": "image", "image": png()},
        {"type": "image", "image": bytearray(png())},
        {"type": "image", "image": url},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
    ]
    conversation = parse_messages(user(*forms))
    assert [image.size for image in conversation.images] == [(6, 4)] * len(forms)
    assert {image.mode for image in conversation.images} == {"RGB"}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "empty"),
        ("hello", "list of"),
        ([{"role": "robot", "content": "x"}], "role 'robot'"),
        ([{"role": "user"}], "no content"),
        ([{"role": "user", "content": []}], "no content"),
        ([{"content": "x"}], "role None"),
        (["x"], "role None"),
        (user({"type": "sound"}), "unknown type 'sound'"),
        (user({"type": "text"}), "unknown type|text"),
        (user({"type": "text", "text": "x", "source": "output"}), "cannot name a source"),
        (user({"type": "text", "text": "x", "source": "image_0"}), "cannot name a source"),
    ],
)
def test_malformed_messages_are_refused(messages: Any, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        parse_messages(messages, require_image=False)


def test_no_image_is_refused_unless_text_alone_is_allowed() -> None:
    with pytest.raises(ImageError, match="no image in the messages"):
        parse_messages([{"role": "user", "content": "hello"}])
    assert parse_messages([{"role": "user", "content": "hello"}], require_image=False).images == ()
    with pytest.raises(ImageError, match="without an image"):
        parse_messages(user({"type": "image"}))


def test_named_texts_are_told(path: Path) -> None:
    conversation = parse_messages(
        [
            {"role": "system", "content": "Be brief."},
            *user({"type": "image", "image": path}, {"type": "text", "text": "D", "source": "document_1"}, "Q?"),
        ]
    )
    assert [(n.source, n.text) for n in conversation.texts] == [
        ("system", "Be brief."),
        ("document_1", "D"),
        (None, "Q?"),
    ]
    assert [part["type"] for part in conversation.messages[1]["content"]] == ["image", "text", "text"]


def test_base64_under_its_key() -> None:
    part = {"type": "image", "base64": base64.b64encode(png()).decode()}
    assert parse_messages(user(part)).images[0].size == (6, 4)
    url = f"data:image/png;charset=utf-8;base64,{part['base64']}"
    assert load_image(url).size == (6, 4)
    with pytest.raises(ImageError, match=r"damaged|format"):
        parse_messages(user({"type": "image", "base64": "a"}))


def calls(*given: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": "x", "tool_calls": list(given)}]


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        (None, "list of"),
        (7, "list of"),
        (b"x", "list of"),
        ({"role": "user"}, "list of"),
        ([None], "role None"),
        ([7], "role None"),
        ([[1]], "role None"),
        ([{"role": 7, "content": "x"}], "role 7"),
        ([{"role": ["user"], "content": "x"}], "role"),
        ([{"role": np.array(["user", "user"]), "content": "x"}], "role array"),
        ([{1: 2}], "role None"),
        ([{"role": "user", "content": 7}], "no content"),
        ([{"role": "user", "content": b"x"}], "no content"),
        ([{"role": "user", "content": {"type": "text", "text": "x"}}], "no content"),
        ([{"role": "user", "content": np.zeros(3)}], "no content"),
        (user(None), "unknown type None"),
        (user(7), "unknown type 7"),
        (user(["x"]), "unknown type"),
        (user({}), "unknown type {}"),
        (user({1: 2}), "unknown type {1: 2}"),
        (user({"type": np.zeros(3)}), "unknown type"),
        (user({"type": "text", "text": None}), "text is None"),
        (user({"type": "text", "text": b"x"}), "text is b'x'"),
        (user({"type": "text", "text": "x", "source": 7}), "cannot name a source"),
        (user({"type": "text", "text": "\ud800"}), "UTF-8"),
        ([{"role": "tool", "content": "x", "name": 7}], "name must be a text"),
        ([{"role": "tool", "content": "x", "tool_call_id": ["1"]}], "tool_call_id must be a text"),
        ([{"role": "assistant", "content": "x", "tool_calls": "look"}], "must be a list"),
        ([{"role": "assistant", "content": "x", "tool_calls": {"function": {}}}], "must be a list"),
        ([{"role": "assistant", "content": "x", "tool_calls": 7}], "must be a list"),
        (calls(None), "tool call 0"),
        (calls("look"), "tool call 0"),
        (calls({}), "tool call 0"),
        (calls({"function": None}), "tool call 0"),
        (calls({"function": "look"}), "tool call 0"),
        (calls({"function": {"name": None}}), "tool call 0"),
        (calls({"function": {"name": ""}}), "tool call 0"),
        (calls({"function": {"name": 7, "arguments": {}}}), "tool call 0"),
        (calls({"function": {"name": "look", "arguments": 7}}), "arguments must be"),
        (calls({"function": {"name": "look", "arguments": ["a"]}}), "arguments must be"),
        (calls({"function": {"name": "look", "arguments": {"a": {1: 2}}}}), "keys are texts"),
        (calls({"function": {"name": "look", "arguments": {"a": object()}}}), "JSON cannot say"),
        (calls({"id": {1}, "function": {"name": "look"}}), "JSON cannot say"),
    ],
)
def test_wrong_shapes_are_errors_of_ours(messages: Any, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        parse_messages(messages, require_image=False)


def test_huge_nesting_is_an_error_of_ours() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for messages in (
        [deep],
        [{"role": deep, "content": "x"}],
        [{"role": "user", "content": deep}],
        user(deep),
        user({"type": deep}),
        user({"type": "text", "text": deep}),
        user({"type": "text", "text": "x", "source": deep}),
        calls({"function": {"name": "look", "arguments": {"a": deep}}}),
        calls(deep),
    ):
        with pytest.raises(MessageError):
            parse_messages(messages, require_image=False)
    for source in (deep, {"url": deep}):
        with pytest.raises(ImageError):
            parse_messages(user({"type": "image_url", "image_url": source}))


def test_calls_are_kept_as_templates_take_them() -> None:
    given = calls(
        {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"at": (1, 2)}}},
        {"function": {"name": "look", "arguments": None}},
        {"name": "look", "arguments": "left"},
    )
    (message,) = parse_messages(given, require_image=False).messages
    assert [call.get("function", call)["arguments"] for call in message["tool_calls"]] == [{"at": [1, 2]}, {}, "left"]
    given[0]["content"] = None
    assert parse_messages(given, require_image=False).messages[0]["content"] == []


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([{"role": "user", "content": "x" * 5_000_000}], "characters"),
        (user({"type": "text", "text": "x" * 5_000_000}), "characters"),
        ([{"role": "user", "content": "x" * 50_000}] * 50, "characters"),
        ([{"role": "user", "content": "x"}] * (MAX_MESSAGES + 1), "messages"),
        (user(*["x"] * (MAX_PARTS + 1)), "parts"),
        ([{"role": "user", "content": ["x"] * 100}] * 101, "parts"),
        (user(*[{"type": "image", "image": "no/such/file.png"}] * (MAX_IMAGES + 1)), "images"),
        (calls({"function": {"name": "look", "arguments": {"a": "x" * 5_000_000}}}), "characters"),
        (calls({"function": {"name": "look", "arguments": {"a": [0] * 50_000}}}), "too much"),
        (calls(*[{"function": {"name": "look"}}] * (MAX_TOOLS + 1)), "calls of tools"),
        ([{"role": "tool", "content": "x", "name": "x" * 5_000_000}], "characters"),
        (range(10**9), "messages"),
        ([{"role": "user", "content": range(10**9)}], "parts"),
    ],
)
def test_too_much_is_refused_before_any_work(messages: Any, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("saliency_guard.chat.messages.load_image", never)
    began = time.thread_time()  # Of this thread alone: other processes do not count.
    with pytest.raises(MessageError, match=complaint):
        parse_messages(messages, require_image=False)
    assert time.thread_time() - began < 1


def test_pictures_have_a_limit_together() -> None:
    image = Image.new("RGB", (10, 10))
    assert len(parse_messages(user(*[{"type": "image", "image": image}] * 8), max_pixels=100).images) == 8
    with pytest.raises(ImageError, match="together"):
        parse_messages(user(*[{"type": "image", "image": image}] * 9), max_pixels=100)
