"""What every request passes, asked of the application in this process."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from served import error_of

from saliency_guard.server.app import app_of
from saliency_guard.server.gate import GUARDRAIL
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState

TOKEN = "the-token"  # noqa: S105 - of a test
ROUTES = ["/ready", "/metrics", "/v1/models", "/v1/models/x", "/", "/docs", "/openapi.json"]
POSTS = ["/v1/chat/completions", "/v1/score", "/v1/verify", GUARDRAIL]


def client_of(state: ServerState, host: str = "127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app_of(state)), base_url=f"http://{host}")


@pytest.fixture
def locked(settings: ServerSettings) -> ServerState:
    """A server with a token."""
    state = ServerState(settings.model_copy(update={"api_key": SecretStr(TOKEN)}))
    state.load()
    return state


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": TOKEN},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer the-toke"},
        {"authorization": "Bearer the-token2"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer \xfc"},
    ],
)
async def test_every_route_but_health_wants_the_token(locked: ServerState, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    async with client_of(locked) as client:
        assert (await client.get("/health", headers=raw)).status_code == 200
        for path in ROUTES:
            reply = await client.get(path, headers=raw)
            assert reply.status_code == 401, path
            scheme = "Basic" if path == "/" else "Bearer"  # A browser asks its user for the token.
            assert reply.headers["www-authenticate"].partition(" ")[0] == scheme
            assert error_of(reply)["code"] == "invalid_api_key"
        for path in POSTS:
            assert (await client.post(path, headers={**raw, "x-api-key": b"wrong"}, json={})).status_code == 401, path


async def test_the_token_opens_every_route(locked: ServerState) -> None:
    async with client_of(locked, "any.example.org") as client:
        for scheme in ("Bearer", "bearer"):
            headers = {"authorization": f"{scheme} {TOKEN}"}
            assert (await client.get("/ready", headers=headers)).status_code == 200
            assert (await client.post("/v1/score", headers=headers, json={})).status_code == 400
        # LiteLLM sends the key of a guardrail in a header of its own; nobody else does.
        assert (await client.post(GUARDRAIL, headers={"x-api-key": TOKEN}, json={})).status_code == 400
        assert (await client.post("/v1/score", headers={"x-api-key": TOKEN}, json={})).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("[::1]", 200),
        ("localhost:8000", 200),
        ("example.org", 403),
        ("127.0.0.1.example.org", 403),
    ],
)
async def test_without_a_token_no_other_name_reaches_the_server(state: ServerState, host: str, status: int) -> None:
    async with client_of(state, host) as client:
        assert (await client.get("/v1/models")).status_code == status
        assert (await client.get("/health")).status_code == 200


async def test_while_it_drains_new_requests_are_told_so(state: ServerState) -> None:
    async with client_of(state) as client:
        assert (await client.get("/ready")).status_code == 200
        state.drain()
        reply = await client.post("/v1/score", json={})
        assert reply.status_code == 503
        assert error_of(reply)["code"] == "shutting_down"
        assert reply.headers["retry-after"]
        assert reply.headers["connection"] == "close"
        assert (await client.get("/ready")).json() == {"status": "shutting down"}
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200


async def test_every_reply_has_an_id_that_the_log_has_too(state: ServerState, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "saliency_guard.server"):
        async with client_of(state) as client:
            reply = await client.post("/v1/score", json={"messages": [{"role": "user", "content": "a secret"}]})
    (line,) = [vars(record) for record in caplog.records if vars(record).get("event") == "request"]
    assert line["id"] == reply.headers["x-request-id"]
    assert (line["route"], line["status"], line["error"]) == ("/v1/score", 400, "invalid_value")
    assert "a secret" not in str(line)
    assert state.in_flight == 0


async def test_unknown_paths_are_one_route_in_the_metrics(state: ServerState) -> None:
    async with client_of(state) as client:
        for path in ("/a", "/b", "/v1/completions"):
            reply = await client.get(path)
            assert reply.status_code == 404
            assert error_of(reply)["code"] == "no_such_route"
        assert (await client.get("/v1/chat/completions")).status_code == 405
        text = (await client.get("/metrics")).text
    assert 'requests_total{route="other",status="404"} 3.0' in text
    assert 'requests_total{route="/v1/chat/completions",status="405"} 1.0' in text


async def test_there_are_no_websockets(state: ServerState) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await app_of(state)({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_an_error_of_our_own_is_told_as_one(state: ServerState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state.metrics, "text", lambda: 1 / 0)
    async with client_of(state) as client:
        reply = await client.get("/metrics")
    assert reply.status_code == 500
    assert error_of(reply)["code"] == "internal_error"
    assert "zero" not in reply.text
