from __future__ import annotations

import httpx
import pytest

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.errors import ModelError
from saliency_guard.evaluation.load import Load, compared, measured, random_lvlm
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.server.app import app_of
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState


def client_of(lvlm: LVLM) -> httpx.AsyncClient:
    state = ServerState(ServerSettings(lvlm=lvlm, api_key=None))
    state.load()
    return httpx.AsyncClient(transport=httpx.ASGITransport(app_of(state)), base_url="http://127.0.0.1")


def test_the_random_model_never_ends_an_answer() -> None:
    lvlm = random_lvlm(layers=1)
    picture = render(sample_scene(1), 336).image
    answer = lvlm.generate(chat(picture, "What is there?"), max_new_tokens=5)
    assert (len(answer.tokens), answer.finish_reason) == (5, "length")
    assert max(token.token_id for token in answer.tokens) < len(lvlm.tokenizer)
    assert answer.usage.prompt_tokens > 576


async def test_every_request_of_every_client_counts(lvlm: LVLM) -> None:
    async with client_of(lvlm) as client:
        load = await measured(client, clients=2, requests=2, tokens=3)
        rows = await compared(client, clients=2, requests=1, tokens=2, rounds=2)
    assert (load.clients, load.tokens, len(load.latencies)) == (2, 12, 4)
    assert 0.0 < max(load.latencies) <= load.seconds
    assert [(one.clients, several.clients) for one, several in rows] == [(1, 2), (1, 2)]
    assert [(one.tokens, several.tokens) for one, several in rows] == [(2, 4), (2, 4)]


async def test_a_server_that_refuses_is_no_result(lvlm: LVLM) -> None:
    async with client_of(lvlm) as client:
        with pytest.raises(ModelError, match="400"):
            await measured(client, clients=1, requests=1, tokens=0)


def test_rates_and_percentiles() -> None:
    load = Load(clients=2, tokens=60, seconds=3.0, latencies=(1.0, 2.0, 3.0))
    assert load.rate == 20.0
    assert load.percentile(50) == 2.0
    assert load.percentile(100) == 3.0
