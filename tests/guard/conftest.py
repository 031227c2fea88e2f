from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE


@pytest.fixture(scope="session")
def messages(picture: Image.Image) -> list[dict[str, Any]]:
    return chat(picture, DESCRIBE)


@pytest.fixture(scope="session")
def answer(lvlm: LVLM, messages: list[dict[str, Any]]) -> GroundedAnswer:
    return lvlm.generate(messages, max_new_tokens=24)
