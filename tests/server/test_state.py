from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from saliency_guard.chat.messages import chat
from saliency_guard.errors import ModelError
from saliency_guard.server.errors import RequestError
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState


def test_until_the_model_is_there_requests_are_told_so(settings: ServerSettings) -> None:
    state = ServerState(settings)
    assert not state.ready
    with pytest.raises(RequestError, match="still being loaded") as raised:
        _ = state.lvlm
    assert raised.value.status == 503
    assert raised.value.headers["retry-after"]
    state.load()
    assert state.ready
    assert state.lvlm is settings.lvlm
    state.drain()
    assert not state.ready


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    state = ServerState(ServerSettings(model=str(tmp_path / "none")))
    state.load()
    assert isinstance(state.failure, ModelError)
    with pytest.raises(RequestError, match="could not be loaded") as raised:
        _ = state.lvlm
    assert str(tmp_path) not in str(raised.value)  # Where it stands is the server's own business.


def test_the_model_s_names(state: ServerState) -> None:
    assert state.require_name(None) == state.settings.name == "saliency-guard/embedded"
    assert state.require_name("embedded") == "embedded"
    with pytest.raises(RequestError, match="no model 'gpt-4o'") as raised:
        state.require_name("gpt-4o")
    assert (raised.value.status, raised.value.code) == (404, "model_not_found")


def test_the_metrics_show_what_the_loaded_model_counts(state: ServerState, picture: Image.Image) -> None:
    state.lvlm.generate(chat(picture, "What is there?"), max_new_tokens=2)
    rounds = state.lvlm.batching.rounds
    assert rounds > 0
    assert f"saliency_guard_batch_rounds_total {float(rounds)}" in state.metrics.text().decode()
