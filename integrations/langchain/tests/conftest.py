"""Pictures and the embedded model, shared by all tests."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator

import pytest
import torch
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import LVLM, shared_lvlm
from saliency_guard.scenes.scene import Scene, render, sample_scene

Ask = Callable[..., HumanMessage]

# Many threads only wait for each other on a model this small.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scene() -> Scene:
    return sample_scene(2523)


@pytest.fixture(scope="session")
def picture(scene: Scene) -> Image.Image:
    return render(scene, 224).image


@pytest.fixture(scope="session")
def b64(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="session")
def ask(b64: str) -> Ask:
    def message(question: str = "Describe the image in detail.") -> HumanMessage:
        image = {"type": "image", "base64": b64, "mime_type": "image/png"}
        return HumanMessage([image, {"type": "text", "text": question}])

    return message


@pytest.fixture(scope="session")
def lvlm() -> LVLM:
    return shared_lvlm(device=None, dtype="auto", revision=None, require_image=False)


@pytest.fixture
def model() -> SaliencyGuardedLVLM:
    return SaliencyGuardedLVLM()


class Counts:
    """How often pictures are fetched and prompts prepared."""

    def __init__(self, picture: bytes) -> None:
        self.picture = picture
        self.fetched: list[str] = []
        self.prepared = 0

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        return self.picture

    def message(self, number: int = 0) -> HumanMessage:
        """A message whose picture is fetched."""
        image = {"type": "image", "url": f"https://example.org/{number}.png"}
        return HumanMessage([image, {"type": "text", "text": "Describe the image in detail."}])


@pytest.fixture
def counts(b64: str, lvlm: LVLM, monkeypatch: pytest.MonkeyPatch) -> Counts:
    counted = Counts(base64.b64decode(b64))
    original = type(lvlm.processor).apply_chat_template

    def apply_chat_template(self: object, *args: object, **settings: object) -> object:
        # What verifies claims, and what shows pictures mirrored, are other prompts.
        counted.prepared += not any(mark in str(args) for mark in ("Is this true", "'text': '?'"))
        return original(self, *args, **settings)

    monkeypatch.setattr(type(lvlm.processor), "apply_chat_template", apply_chat_template)
    return counted


@pytest.fixture
def says() -> Callable[..., GenericFakeChatModel]:
    """A model that says what it is told to: the one whose answers are to be guarded."""

    def model(*texts: str) -> GenericFakeChatModel:
        def messages() -> Iterator[AIMessage]:
            for text in texts:
                yield AIMessage(text)

        return GenericFakeChatModel(messages=messages())

    return model
