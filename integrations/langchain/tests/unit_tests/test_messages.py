"""Every form of an image block reaches the model as the same picture; what does not fit is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import ImageError, MessageError

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
    assert len(answers["v1"]["tokens"]) > 3
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
        ({"type": "image"}, ImageError, "nothing that can be read"),
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
