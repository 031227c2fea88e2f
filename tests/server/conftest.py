from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from PIL import Image
from served import Served

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.chat.messages import chat
from saliency_guard.server.app import app_of
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    """One process for all tests that do not end it."""
    running = Served("--max-running", "4", "--max-waiting", "60", "--report", "tokens")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def described(lvlm: LVLM, picture: Image.Image) -> GroundedAnswer:
    """What the model itself says of the picture."""
    return lvlm.generate(chat(picture, "Describe the image in detail."))


@pytest.fixture
def settings(lvlm: LVLM, monkeypatch: pytest.MonkeyPatch) -> ServerSettings:
    monkeypatch.delenv("SALIENCY_GUARD_API_KEY", raising=False)
    return ServerSettings(lvlm=lvlm)


@pytest.fixture
def state(settings: ServerSettings) -> ServerState:
    """The state of a server whose model is loaded."""
    state = ServerState(settings)
    state.load()
    return state


@pytest.fixture
async def client(state: ServerState) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the application in this process; settings may still be changed."""
    transport = httpx.ASGITransport(app_of(state))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
