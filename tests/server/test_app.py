from __future__ import annotations

import httpx
import pytest

from saliency_guard.errors import ModelError
from saliency_guard.server import create_app
from saliency_guard.server.app import app_of
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState


async def test_the_model_is_listed(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert listed["object"] == "list"
    (card,) = listed["data"]
    assert card["id"] == "saliency-guard/embedded"
    assert card["max_model_len"] == 2048
    assert card["calibrated"]
    assert (await client.get("/v1/models/saliency-guard/embedded")).json() == card
    assert (await client.get("/v1/models/gpt-4o")).status_code == 404


async def test_health_readiness_and_loading_are_told_apart(settings: ServerSettings) -> None:
    state = ServerState(settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app_of(state)), base_url="http://127.0.0.1") as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/v1/models")).status_code == 503
        reply = await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hi."}]})
        assert reply.status_code == 503
        state.load()
        assert (await client.get("/ready")).json() == {"status": "ready"}
        state.failure = ModelError("gone")
        assert (await client.get("/health")).status_code == 503


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
async def test_there_are_no_pages(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_an_application_loads_its_model_when_it_starts(settings: ServerSettings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            while (await client.get("/ready")).status_code != 200:
                assert (await client.get("/health")).status_code == 200
