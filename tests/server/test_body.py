"""Hostile bodies, sent to the application in this process."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from PIL import Image
from served import chat_about, error_of

from saliency_guard.server.state import ServerState

PATH = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1, 2]",
        b"7",
        b'"text"',
        b"null",
        b'{"n": NaN, "messages": []}',
        b'{"n": 1e999, "messages": []}',
        b'{"n": 1, "n": 2, "messages": []}',
        b'{"messages": ' + b"[" * 100_000,
        b'{"n": ' + b"9" * 10_000 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
    ids=range(13),
)
async def test_what_is_no_json_object_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    reply = await client.post(PATH, content=content, headers=JSON)
    assert reply.status_code == 400
    assert error_of(reply)["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_other_types_are_refused(client: httpx.AsyncClient, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    reply = await client.post(PATH, content=b"{}", headers=headers)
    assert reply.status_code == 415
    reply = await client.post(PATH, content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"})
    assert reply.status_code == 400


async def test_compressed_bodies_are_refused_by_name(client: httpx.AsyncClient) -> None:
    content = gzip.compress(b"{}")
    reply = await client.post(PATH, content=content, headers={**JSON, "content-encoding": "gzip"})
    assert (reply.status_code, error_of(reply)["code"]) == (415, "unsupported_content_encoding")
    reply = await client.post(PATH, content=b"{}", headers={**JSON, "content-encoding": "identity"})
    assert reply.status_code == 400


async def test_a_large_body_is_refused_before_it_is_read(state: ServerState, client: httpx.AsyncClient) -> None:
    state.settings.max_body_bytes = 1000
    taken = 0

    async def pieces(count: int) -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(count):
            taken += 1
            yield b" " * 600

    announced = await client.post(PATH, content=b" " * 1001, headers=JSON)
    sent = await client.post(PATH, content=pieces(2), headers=JSON)
    for reply in (announced, sent):
        assert reply.status_code == 413
        assert error_of(reply)["code"] == "body_too_large"
        assert reply.headers["connection"] == "close"
    assert (await client.post(PATH, content=b" " * 1000, headers=JSON)).status_code == 400


async def test_a_body_that_lies_about_its_length_is_cut_off(state: ServerState, client: httpx.AsyncClient) -> None:
    state.settings.max_body_bytes = 1000

    async def pieces() -> AsyncIterator[bytes]:
        yield b" " * 5000

    reply = await client.post(PATH, content=pieces(), headers={**JSON, "content-length": "10"})
    assert reply.status_code == 413


async def test_a_slow_body_is_not_waited_for(state: ServerState, client: httpx.AsyncClient) -> None:
    state.settings.body_timeout = 0.05

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(0.3)
        yield b"}"

    reply = await client.post(PATH, content=pieces(), headers=JSON)
    assert reply.status_code == 408
    assert error_of(reply)["code"] == "body_timeout"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": {}},
        {"messages": ["hello"]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "x"}], "unknown": 1},
        {"messages": [{"role": "user", "content": "x"}], "n": "many"},
        {"messages": [{"role": "user", "content": "x" * 3_000_000}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 11_000}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]},
        {"messages": [{"role": "assistant", "tool_calls": 7}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}],
                }
            ]
        },
    ],
    ids=range(12),
)
async def test_other_bodies_are_errors_of_the_client(client: httpx.AsyncClient, body: Any) -> None:
    reply = await client.post(PATH, json=body)
    assert reply.status_code == 400
    assert error_of(reply)["type"] == "invalid_request_error"


async def test_null_is_as_if_left_out(client: httpx.AsyncClient, picture: Image.Image) -> None:
    body = {"messages": chat_about(picture), "max_tokens": 1, "stop": None, "n": None}
    reply = await client.post(PATH, json=body)
    assert reply.status_code == 200
