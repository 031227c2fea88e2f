from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import chat_about, data_uri

from saliency_guard import LVLM
from saliency_guard.errors import ImageError, MessageError
from saliency_guard.server.messages import core_messages, picture_messages
from saliency_guard.server.settings import ServerSettings


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def test_openai_s_messages_are_the_core_s(settings: ServerSettings, lvlm: LVLM, picture: Image.Image) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "developer", "content": "Be short."},
        *chat_about(picture, "What is there?"),
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "A cup."}]},
        {"role": "user", "content": [{"type": "text", "text": "A page.", "source": "document_1"}]},
    ]
    converted = core_messages(messages, settings)
    assert [message["role"] for message in converted] == ["system", "user", "assistant", "tool", "user"]
    assert isinstance(converted[1]["content"][0]["image"], bytes)
    assert converted[2]["tool_calls"] == [call]
    assert converted[4]["content"][0]["source"] == "document_1"
    prepared = lvlm.prepare(converted)
    assert prepared.conversation is not None
    assert prepared.conversation.images[0].size == picture.size


@pytest.mark.parametrize(
    "url",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "http://example.org/x.png",
        "https://example.org/x.png",
        "ftp://example.org/x.png",
        "aGVsbG8=",
        "",
        None,
        7,
        ["data:image/png;base64,aGVsbG8="],
        "data:text/plain,hello",
        "data:image/png;base64",
    ],
)
def test_a_picture_is_a_data_uri(settings: ServerSettings, url: Any, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        core_messages(user({"type": "image_url", "image_url": {"url": url}}), settings)


@pytest.mark.parametrize("key", ["image", "path", "url", "data", "base64"])
def test_the_core_s_own_forms_of_pictures_are_not_taken(settings: ServerSettings, key: str) -> None:
    with pytest.raises(MessageError, match="part of type"):
        core_messages(user({"type": "image", key: "/etc/passwd"}), settings)


def test_pictures_come_from_allowed_hosts(settings: ServerSettings, picture: Image.Image) -> None:
    fetched: list[str] = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        return b"a picture"

    allowed = settings.model_copy(update={"fetch_image": fetch})
    part = {"type": "image_url", "image_url": {"url": "https://example.org/x.png", "detail": "high"}}
    assert core_messages(user(part), allowed)[0]["content"] == [{"type": "image", "image": b"a picture"}]
    assert fetched == ["https://example.org/x.png"]
    with pytest.raises(ImageError):
        core_messages(user({"type": "image_url", "image_url": {"url": "file:///x"}}), allowed)


def test_pictures_are_limited_in_number_and_size(settings: ServerSettings, picture: Image.Image) -> None:
    few = settings.model_copy(update={"max_images": 2})
    part = {"type": "image_url", "image_url": {"url": data_uri(picture)}}
    assert len(core_messages(user(part, part), few)[0]["content"]) == 2
    with pytest.raises(ImageError, match="more than 2"):
        core_messages([*user(part, part), *user(part)], few)
    with pytest.raises(ImageError, match="over the limit of 10:"):
        core_messages(user(part), settings.model_copy(update={"max_image_bytes": 10}))


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"role": "user", "content": 7},
        {"role": "user", "content": {"type": "text"}},
        {"role": ["user"], "content": "x"},
        {"role": "function", "content": "x"},
        {"role": "assistant", "function_call": {"name": "x"}},
        {"role": "user", "content": [7]},
        {"role": "user", "content": [{"type": ["text"], "text": "x"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
    ],
)
def test_other_messages_are_refused(settings: ServerSettings, message: Any) -> None:
    with pytest.raises(MessageError):
        core_messages([message], settings)


def test_too_many_messages(settings: ServerSettings) -> None:
    with pytest.raises(MessageError, match="2001"):
        core_messages([{"role": "user", "content": "x"}] * 2001, settings)


def test_pictures_and_a_question(settings: ServerSettings, picture: Image.Image) -> None:
    uri = data_uri(picture)
    (message,) = picture_messages([uri, uri.partition(",")[2]], "What?", settings)
    first, second, question = message["content"]
    assert first == second
    assert question == {"type": "text", "text": "What?"}
