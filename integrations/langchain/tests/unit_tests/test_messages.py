"""Every form of an image block reaches the model as the same picture; what does not fit is said."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image

from langchain_saliency_guard import GroundingGuard, RetrievalGuard, SaliencyGuardedLVLM
from langchain_saliency_guard._messages import by_content, has_picture, image_of, to_core
from saliency_guard import ConfigError, GuardPolicy, ImageError, InputError, MessageError
from saliency_guard.chat.messages import parse_messages

QUESTION = {"type": "text", "text": "Describe the image in detail."}


def forms(b64: str, path: Path, picture: Image.Image) -> dict[str, Any]:
    uri = f"data:image/png;base64,{b64}"
    return {
        "v1": {"type": "image", "base64": b64, "mime_type": "image/png"},
        "v1 url": {"type": "image", "url": uri},
        "v0": {"type": "image", "source_type": "base64", "data": b64, "mime_type": "image/png"},
        "v0 url": {"type": "image", "source_type": "url", "url": uri},
        "image_url": {"type": "image_url", "image_url": {"url": uri}},
        "image_url string": {"type": "image_url", "image_url": uri},
        "input_image": {"type": "input_image", "image_url": uri},
        "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64}},
        "hugging face": {"type": "image", "image": picture},
        "path": {"type": "image", "path": str(path)},
        "file url": {"type": "image", "url": path.as_uri()},
        "file": {"type": "file", "base64": b64, "mime_type": "image/png"},
    }


def test_all_forms_of_an_image_give_one_answer(
    model: SaliencyGuardedLVLM, b64: str, picture: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "a picture.png"
    picture.save(path)
    answers = {
        name: model.invoke([HumanMessage([block, QUESTION])]).response_metadata["grounding"]
        for name, block in forms(b64, path, picture).items()
    }
    assert answers["v1"]["shares"]["image_0"] > 0
    assert {name for name, found in answers.items() if found != answers["v1"]} == set()


def test_a_url_is_fetched_only_by_who_was_told_to(b64: str, picture: Image.Image, tmp_path: Path) -> None:
    block = {"type": "image_url", "image_url": {"url": "https://example.com/picture.png"}}
    picture.save(tmp_path / "p.png")
    with pytest.raises(ImageError, match="fetch_image"):
        SaliencyGuardedLVLM().invoke([HumanMessage([block, QUESTION])])
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return (tmp_path / "p.png").read_bytes()

    told = SaliencyGuardedLVLM(fetch_image=fetch).invoke([HumanMessage([block, QUESTION])])
    plain = SaliencyGuardedLVLM().invoke(
        [HumanMessage([{"type": "image", "base64": b64, "mime_type": "image/png"}, QUESTION])]
    )
    assert asked == ["https://example.com/picture.png"]
    assert told.content == plain.content


@pytest.mark.parametrize(
    ("block", "error", "words"),
    [
        ({"type": "image", "file_id": "file-1"}, ImageError, "file id"),
        ({"type": "image"}, ImageError, "no readable image"),
        ({"type": "image", "base64": "bm8gaW1hZ2U=", "mime_type": "image/png"}, ImageError, "format"),
        ({"type": "audio", "base64": "AA==", "mime_type": "audio/wav"}, MessageError, "'audio'"),
        ({"type": "file", "base64": "AA==", "mime_type": "application/pdf"}, MessageError, "text and images"),
    ],
)
def test_what_cannot_be_used_is_said(
    model: SaliencyGuardedLVLM, block: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        model.invoke([HumanMessage([block, QUESTION])])


def test_histories_of_all_kinds_are_answered(model: SaliencyGuardedLVLM, ask: Any, b64: str) -> None:
    call = {"name": "look", "args": {"where": "left"}, "id": "call_1", "type": "tool_call"}
    shown = [{"type": "text", "text": "Here it is:"}, {"type": "image", "base64": b64, "mime_type": "image/png"}]
    called = AIMessage("", tool_calls=[call])
    thought = AIMessage([{"type": "reasoning", "reasoning": "Hm."}], tool_calls=[call])
    go_on = [HumanMessage("Go on."), AIMessage("A"), AIMessage("B"), HumanMessage("C")]
    histories: list[list[AnyMessage]] = [
        [SystemMessage("Be brief."), ask()],
        [ask(), AIMessage("A picture."), HumanMessage("What else?")],
        [SystemMessage("One."), SystemMessage("Two."), ask(), *go_on],
        [HumanMessage("Look."), called, ToolMessage(shown, tool_call_id="call_1", name="look")],
        [HumanMessage("Look."), thought, ToolMessage("Nothing.", tool_call_id="call_1")],
        [ask(), AIMessage("")],
        [ChatMessage("Be brief.", role="system"), ask()],
    ]
    for history in histories:
        answer = model.invoke(history)
        assert isinstance(answer.content, str)
        assert "USER" not in answer.content
    with pytest.raises(MessageError, match="ChatMessage"):
        model.invoke([ChatMessage("Hm.", role="critic")])


REMOTE = ["http://127.0.0.1:9/a", "HTTP://127.0.0.1:9/a", "hTtP://127.0.0.1/a", " https://localhost/a", "ht\ntp://a/b"]


@pytest.mark.parametrize("url", REMOTE)
def test_urls_are_told_as_any_library_may_read_them(url: str, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "p.png")
    asked: list[str] = []

    def fetch(given: str) -> bytes:
        asked.append(given)
        return (tmp_path / "p.png").read_bytes()

    blocks = [
        {"type": "image", "url": url},
        {"type": "image", "path": url},
        {"type": "image", "image": url},
        {"type": "image", "base64": url},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "image", "source": {"type": "url", "url": url}},
        {"type": "file", "url": url, "mime_type": "Image/PNG"},
        {"type": "non_standard", "value": {"type": "image_url", "image_url": {"url": url}}},
        {"type": "non_standard", "value": {"type": "non_standard", "value": {"type": "image", "url": url}}},
    ]
    for block in blocks:
        messages = [HumanMessage.model_construct(content=[block])]
        with pytest.raises(ImageError, match="not fetched"):
            parse_messages(to_core(messages))
        assert len(parse_messages(to_core(messages, fetch_image=fetch)).images) == 1
        assert has_picture(messages)
    assert asked == [url] * len(blocks)


DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]
WRAPPED: Any = {"type": "image", "url": "x"}
for _ in range(20):
    WRAPPED = {"type": "non_standard", "value": WRAPPED}

BLOCKS: list[Any] = [
    None,
    7,
    ["x"],
    DEEP,
    {},
    {1: 2},
    {"type": None},
    {"type": 7},
    {"type": ["image"]},
    {"type": "text"},
    {"type": "text", "text": None},
    {"type": "text", "text": 7},
    {"type": "text", "text": ["x"]},
    {"type": "text-plain", "text": DEEP},
    {"type": "text", "text": "x", "extras": 7, "source": "output"},
    {"type": "image"},
    {"type": "image", "url": None},
    {"type": "image", "url": 7},
    {"type": "image", "url": ["http://a"]},
    {"type": "image", "url": DEEP},
    {"type": "image", "base64": 7},
    {"type": "image", "base64": b"x"},
    {"type": "image", "base64": ["x"]},
    {"type": "image", "base64": "\ud800"},
    {"type": "image", "data": {"a": 1}},
    {"type": "image", "source": 7},
    {"type": "image", "source": {"type": "base64"}},
    {"type": "image", "source": {"type": "base64", "data": 7}},
    {"type": "image_url"},
    {"type": "image_url", "image_url": None},
    {"type": "image_url", "image_url": 7},
    {"type": "image_url", "image_url": ["x"]},
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": {"url": 7}},
    {"type": "image_url", "image_url": {"url": {"url": "x"}}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64"}},
    {"type": "file", "mime_type": 7},
    {"type": "file", "mime_type": "image/", "base64": None},
    {"type": "file", "mime_type": ["image/png"], "base64": "AA=="},
    {"type": "non_standard"},
    {"type": "non_standard", "value": None},
    {"type": "non_standard", "value": "x"},
    {"type": "non_standard", "value": 7},
    {"type": "non_standard", "value": DEEP},
    WRAPPED,
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_blocks_of_wrong_shapes_are_errors_of_ours(block: Any) -> None:
    messages = [HumanMessage.model_construct(content=[block])]
    with pytest.raises(InputError) as refusal:
        parse_messages(to_core(messages), require_image=False)
    assert len(str(refusal.value)) < 1000
    for look in (has_picture, by_content):
        try:
            assert look(messages) in {True, False}
        except MessageError:
            assert not isinstance(block, dict) or not isinstance(block.get("type"), str) or "non" in block["type"]


@pytest.mark.parametrize(
    "messages",
    [
        None,
        7,
        [None],
        ["hello"],
        [{"role": "user"}],
        [HumanMessage.model_construct(content=None)],
        [HumanMessage.model_construct(content=7)],
        [HumanMessage.model_construct(content=b"x")],
        [AIMessage.model_construct(content="", tool_calls=[7])],
        [AIMessage.model_construct(content="", tool_calls=[{"name": 7, "args": 7, "id": 7}])],
        [AIMessage.model_construct(content="", tool_calls=7)],
        [AIMessage("", tool_calls=[{"name": "a", "args": {"b": object()}, "id": "1"}])],
        [ToolMessage.model_construct(content="x", tool_call_id=7, name=7)],
        [HumanMessage("x")] * 5000,
    ],
    ids=range(14),
)
def test_messages_of_wrong_shapes_are_errors_of_ours(messages: Any) -> None:
    with pytest.raises(MessageError):
        parse_messages(to_core(messages), require_image=False)


def test_pictures_in_files_are_no_content_of_messages(b64: str, picture: Image.Image) -> None:
    inside = [{"type": "image", "base64": b64}, {"type": "image", "url": f" DATA:image/png;base64,{b64}"}]
    inside += [{"type": "image", "source": {"type": "base64", "data": b64}}, {"type": "image"}]
    outside: list[dict[str, Any]] = [{"type": "image", "image": picture}, {"type": "image", "path": "/a.png"}]
    outside += [{"type": "image", "url": url} for url in ("file:///a.png", " FILE:///a.png", "/a.png", "a.png")]
    outside += [{"type": "image_url", "image_url": {"url": "/a.png"}}]
    outside += [{"type": "non_standard", "value": {"type": "image", "path": "/a.png"}}]
    assert all(by_content([HumanMessage([block])]) for block in inside)
    assert not any(by_content([HumanMessage([block])]) for block in outside)


def test_telling_base64_from_a_path_takes_no_time() -> None:
    began = time.thread_time()  # Of this thread alone: other processes do not count.
    for data in (" " * 1_000_000 + "!", "A" * 1_000_000 + "!", "A " * 1_000_000 + "=== !"):
        assert image_of(data) == data
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    "tools", [7, "look", {"a": 1}, [None], [7], [{}], [{"function": "look"}], [DEEP]], ids=range(8)
)
def test_tools_of_wrong_shapes_are_errors_of_ours(model: SaliencyGuardedLVLM, ask: Any, tools: Any) -> None:
    with pytest.raises(ConfigError):
        model.bind_tools(tools).invoke([ask()])
    with pytest.raises(ConfigError):
        model.invoke([ask()], tools=tools)


def test_schemas_of_wrong_shapes_are_errors_of_ours(model: SaliencyGuardedLVLM, ask: Any) -> None:
    for schema in (7, "x", [1], {"type": "json_schema", "json_schema": 7}, {"type": "json_schema"}):
        with pytest.raises(ConfigError):
            model.invoke([ask()], response_format=schema)


def test_guards_say_what_is_wrong_with_their_input() -> None:
    policy = GuardPolicy(min_grounding=0.5)
    for messages in (7, None, [7], [{"content": "x"}], [("robot", "x")], [{"role": "user"}], [DEEP]):
        with pytest.raises(InputError):
            GroundingGuard(policy).invoke({"messages": messages, "answer": "A cat."})
    for documents in (7, None, [7], ["x"], [{"page_content": "x"}]):
        with pytest.raises(ConfigError, match="Documents"):
            RetrievalGuard().invoke({"question": "Why?", "documents": documents})


def test_a_timeout_of_a_call_is_checked(model: SaliencyGuardedLVLM, ask: Any) -> None:
    for timeout in (float("inf"), float("nan"), 0, -1, "x"):
        with pytest.raises(ConfigError, match="timeout"):
            model.invoke([ask()], timeout=timeout)
        with pytest.raises(ConfigError, match="timeout"):
            SaliencyGuardedLVLM(timeout=timeout)
