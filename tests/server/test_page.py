"""The page to try a model: behind the token, and what it shows is the answer's own page."""

from __future__ import annotations

import base64
import re

import httpx
import pytest
from PIL import Image
from pydantic import SecretStr
from served import chat_about, error_of

from saliency_guard import GroundedAnswer
from saliency_guard.report.page.render import own_style_and_script
from saliency_guard.server.app import app_of
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState


def asking(state: ServerState) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app_of(state)), base_url="http://127.0.0.1")


def basic(password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


async def test_the_form_allows_its_own_script_and_the_page_s(client: httpx.AsyncClient) -> None:
    reply = await client.get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', reply.text)[0]
    assert "default-src &#39;none&#39;" in policy
    assert policy.count("sha256-") == 4
    assert "unsafe" not in policy
    assert not re.search(r"https?://", reply.text)
    assert all(own_style_and_script())


async def test_a_question_comes_back_as_the_answer_s_page(
    client: httpx.AsyncClient, picture: Image.Image, described: GroundedAnswer
) -> None:
    reply = await client.post("/v1/page", json={"messages": chat_about(picture)})
    told = reply.json()
    assert reply.status_code == 200
    assert told["grounding"] == pytest.approx(described.grounding, abs=1e-4)
    assert told["html"].startswith("<!doctype html>")
    assert '"source":"lens"' in told["html"]


async def test_an_answer_from_elsewhere_has_a_page(client: httpx.AsyncClient, picture: Image.Image) -> None:
    body = {"messages": chat_about(picture), "text": "There is a green elephant."}
    told = (await client.post("/v1/page", json=body)).json()
    assert "elephant" in told["html"]
    refused = await client.post("/v1/page", json={**body, "temperature": 0.5})
    assert (refused.status_code, error_of(refused)["param"]) == (400, "text")


async def test_a_form_of_another_site_cannot_send_it(client: httpx.AsyncClient) -> None:
    """What a page elsewhere may send without asking first is no JSON by its type."""
    reply = await client.post("/v1/page", content=b'{"messages": []}', headers={"content-type": "text/plain"})
    assert reply.status_code == 415
    assert "access-control-allow-origin" not in reply.headers


async def test_browsers_show_the_token_as_a_password(settings: ServerSettings, picture: Image.Image) -> None:
    state = ServerState(settings.model_copy(update={"api_key": SecretStr("secret")}))
    state.load()
    async with asking(state) as client:
        asked = await client.get("/")
        assert asked.status_code == 401
        assert asked.headers["www-authenticate"].startswith("Basic realm=")
        assert (await client.get("/", headers=basic("wrong"))).status_code == 401
        assert (await client.get("/", headers={"authorization": "Basic no base64!"})).status_code == 401
        assert (await client.get("/", headers=basic("secret"))).status_code == 200
        assert (await client.get("/", headers={"authorization": "Bearer secret"})).status_code == 200
        body = {"messages": chat_about(picture), "max_tokens": 3}
        assert (await client.post("/v1/page", json=body, headers=basic("secret"))).status_code == 200
        # Other routes are for programs, and take the header alone.
        models = await client.get("/v1/models", headers=basic("secret"))
        assert (models.status_code, models.headers["www-authenticate"]) == (401, "Bearer")
