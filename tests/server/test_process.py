"""A process that is overrun, killed, started again, and told to end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image
from served import ENDLESS, PATIENCE, Served, chat_about, error_of, numbers

from saliency_guard.errors import ModelError
from saliency_guard.server import process
from saliency_guard.server.settings import ServerSettings

# One process for all: the server starts once.
pytestmark = [pytest.mark.allow_hosts(["127.0.0.1"]), pytest.mark.xdist_group("server process")]

OPTIONS = (
    "--max-running",
    "1",
    "--max-waiting",
    "1",
    "--max-body",
    "0.2",
    "--log-contents",
    "--shutdown-timeout",
    "100",
)


@pytest.fixture(scope="module")
def small() -> Iterator[list[Served]]:
    """A server with little room, in a list: it is killed, and another one takes its place."""
    running = [Served(*OPTIONS, key="")]
    yield running
    running[0].stop()


def test_who_comes_when_all_places_are_taken_is_told_when_to_come_back(
    small: list[Served], picture: Image.Image
) -> None:
    server = small[0]
    with server.openai() as client:
        create = client.chat.completions.create
        first = create(model="embedded", messages=chat_about(picture), stream=True, **ENDLESS)
        next(iter(first))
        waiting = threading.Thread(target=_patient, args=(server, picture))
        waiting.start()
        server.wait_for(lambda: server.metric("requests_waiting") == 1)
        assert server.metric("requests_running") == 1
        with pytest.raises(openai.RateLimitError) as raised:
            create(model="embedded", messages=chat_about(picture))
        assert int(raised.value.response.headers["retry-after"]) >= 1
        assert server.get("/health").status_code == server.get("/ready").status_code == 200
        first.close()
    waiting.join(PATIENCE)
    server.wait_for(lambda: server.metric("requests_running") == server.metric("requests_waiting") == 0)
    assert server.metric("requests_total", route="/v1/chat/completions", status="429") == 1


def _patient(server: Served, picture: Image.Image) -> None:
    with server.openai() as client:
        client.chat.completions.create(model="embedded", messages=chat_about(picture), max_tokens=2)


def test_a_deadline_ends_a_request(small: list[Served], picture: Image.Image) -> None:
    server = small[0]
    with server.openai(max_retries=3) as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(
            model="embedded", messages=chat_about(picture), extra_body={"timeout": 0.5}, **ENDLESS
        )
    assert raised.value.status_code == 504
    assert raised.value.code == "deadline_exceeded"
    server.wait_for(lambda: server.metric("requests_running") == 0)
    assert (
        server.metric("requests_total", route="/v1/chat/completions", status="504") == 1
    )  # The client did not repeat.


def test_a_body_over_the_limit_is_refused(small: list[Served]) -> None:
    for size in (300_000, 10_000_000):
        try:
            reply = small[0].post("/v1/chat/completions", {"messages": [], "user": "x" * size})
        except httpx.TransportError:  # What is far too large is not waited for.
            assert size > 5_000_000
        else:
            assert reply.status_code == 413
            assert error_of(reply)["code"] == "body_too_large"
    assert small[0].get("/ready").status_code == 200


def test_without_a_token_it_is_open_to_this_machine_under_no_other_name(small: list[Served]) -> None:
    assert small[0].event("open") is not None
    assert httpx.get(small[0].url + "/v1/models").status_code == 200
    assert httpx.get(small[0].url + "/v1/models", headers={"host": "example.org"}).status_code == 403


def test_contents_are_logged_where_that_is_asked_for(small: list[Served], picture: Image.Image) -> None:
    with small[0].openai() as client:
        reply = client.chat.completions.create(
            model="embedded", messages=chat_about(picture, "Is there a cup?"), max_tokens=3
        )
    server = small[0]
    said = [reply.choices[0].message.content]  # The line of another request may be the last until this one's is read.
    server.wait_for(lambda: (server.event("request") or {}).get("answers") == said)
    line = server.event("request")
    assert line is not None
    assert line["messages"] == [{"role": "user", "text": "Is there a cup?", "pictures": 1}]


def test_a_killed_server_is_an_error_and_one_started_again_answers(small: list[Served], picture: Image.Image) -> None:
    server = small[0]
    port = server.port
    with server.openai() as client:
        create = client.chat.completions.create
        stream = create(model="embedded", messages=chat_about(picture), stream=True, **ENDLESS)
        next(iter(stream))
        server.kill()
        with pytest.raises((httpx.TransportError, openai.APIError)):
            list(stream)
        with pytest.raises(openai.APIConnectionError):
            create(model="embedded", messages=chat_about(picture))
        server.stop()
        small[0] = Served(*OPTIONS, key="", port=port)
        assert create(model="embedded", messages=chat_about(picture), max_tokens=2).choices[0].message.content


def test_sigterm_lets_requests_end_and_takes_no_new_ones(small: list[Served], picture: Image.Image) -> None:
    server = small[0]
    with server.openai() as client:
        create = client.chat.completions.create
        stream = create(model="embedded", messages=chat_about(picture), stream=True, **numbers(200))
        chunks = [next(iter(stream))]
        server.terminate()
        server.wait_for(lambda: server.get("/ready").status_code == 503)
        assert server.get("/health").status_code == 200
        with pytest.raises(openai.InternalServerError) as raised:
            create(model="embedded", messages=chat_about(picture))
        assert raised.value.status_code == 503
        assert raised.value.code == "shutting_down"
        chunks += stream
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(json.loads("".join(chunk.choices[0].delta.content or "" for chunk in chunks))) == 200
    assert server.wait() == 0
    with pytest.raises(httpx.ConnectError):
        server.get("/health")


def test_a_model_that_cannot_be_loaded_ends_the_server(
    settings: ServerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "log_to_stderr", lambda: None)  # The tests' own logs stay as they are.
    missing = settings.model_copy(update={"lvlm": None, "model": str(tmp_path / "none"), "port": 0})
    with pytest.raises(ModelError, match="none"):
        process.serve(missing)
