"""Memory after thousands of calls: what it was after the first ones."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator

import httpx
import pytest
from mixed_calls import KINDS, MixedCall, resident_bytes
from PIL import Image
from served import PATIENCE, Served, chat_about

from saliency_guard import LVLM

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

SHARE = float(os.environ.get("SOAK_SHARE", "1"))  # SOAK_SHARE=0.1 is a tenth of it.
CANCELLED = round(1000 * SHARE)
REQUESTS = round(2000 * SHARE)
WARM_UP = 60
HTTP_WARM_UP = max(WARM_UP, round(700 * SHARE))
"""Every worker thread has its arena after some 600 requests: 572 MB from then on, measured up to 1,800."""
AT_ONCE = 16
GROWTH = 1.05


def test_cancelled_calls(lvlm: LVLM) -> None:
    def run(count: int) -> None:
        for number in range(count):  # Each is made anew: a call keeps its picture.
            MixedCall(len(KINDS) * number + KINDS.index("cancelled")).run(lvlm)
        gc.collect()

    run(WARM_UP)
    before = resident_bytes()
    run(CANCELLED)
    assert resident_bytes() < GROWTH * before
    assert lvlm.batching.active == 0


@pytest.fixture
def server() -> Iterator[Served]:
    running = Served("--max-running", "8", "--max-waiting", "64")
    yield running
    running.stop()


async def test_requests_over_http(server: Served, picture: Image.Image) -> None:
    """Answers, streams, scores, clients that leave, and requests that are refused."""
    messages = chat_about(picture, "Is there a dog in the image?")
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(
        base_url=server.url, headers=server.headers, timeout=PATIENCE, limits=limits
    ) as client:

        async def ask(number: int) -> None:
            body = {"model": "embedded", "messages": messages, "max_tokens": 12}
            kind = number % 5
            if kind == 0:
                reply = await client.post("/v1/chat/completions", json=body)
                assert reply.status_code == 200, reply.text
            elif kind == 1:
                async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
                    assert [line async for line in stream.aiter_lines()][-2:] == ["data: [DONE]", ""]
            elif kind == 2:
                reply = await client.post("/v1/score", json={"messages": messages, "text": "No."})
                assert reply.status_code == 200, reply.text
            elif kind == 3:  # A client that leaves after the first line.
                long = {**body, "stream": True, "max_tokens": 100}
                async with client.stream("POST", "/v1/chat/completions", json=long) as stream:
                    async for _ in stream.aiter_lines():
                        break
            else:
                reply = await client.post("/v1/chat/completions", json={**body, "max_tokens": -1})
                assert reply.status_code == 400, reply.text

        async def run(first: int, count: int) -> None:
            gate = asyncio.Semaphore(AT_ONCE)

            async def one(number: int) -> None:
                async with gate:
                    await ask(number)

            await asyncio.gather(*(one(number) for number in range(first, first + count)))

        await run(0, HTTP_WARM_UP)
        before = resident_bytes(server.process_id)
        await run(HTTP_WARM_UP, REQUESTS)
        assert resident_bytes(server.process_id) < GROWTH * before
    await asyncio.to_thread(server.wait_for, lambda: server.metric("requests_running") == 0)
