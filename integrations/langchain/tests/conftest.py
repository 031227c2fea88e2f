"""Pictures and the embedded model, shared by all tests."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import LVLM, shared_lvlm
from saliency_guard.scenes.scene import Scene, render, sample_scene

Ask = Callable[..., HumanMessage]


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
    def asked(question: str = "Describe the image in detail.") -> HumanMessage:
        image = {"type": "image", "base64": b64, "mime_type": "image/png"}
        return HumanMessage([image, {"type": "text", "text": question}])

    return asked


@pytest.fixture(scope="session")
def lvlm() -> LVLM:
    return shared_lvlm(device=None, dtype="auto", revision=None, require_image=False)


@pytest.fixture
def model() -> SaliencyGuardedLVLM:
    return SaliencyGuardedLVLM()


@pytest.fixture
def says() -> Callable[..., GenericFakeChatModel]:
    """A model that says what it is told to: the one whose answers are to be guarded."""

    def model(*texts: str) -> GenericFakeChatModel:
        def messages() -> Iterator[AIMessage]:
            for text in texts:
                yield AIMessage(text)

        return GenericFakeChatModel(messages=messages())

    return model
