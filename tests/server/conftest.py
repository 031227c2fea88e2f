from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Served

from saliency_guard import LVLM
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    """One process for all tests that do not end it."""
    running = Served("--max-running", "4", "--max-waiting", "60", "--report", "tokens")
    yield running
    running.stop()


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
