"""What requests leave behind, of all kinds and however they end: nothing."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image
from served import chat_about

from saliency_guard.server.app import app_of
from saliency_guard.server.gate import GUARDRAIL
from saliency_guard.server.state import ServerState

COMPLETIONS = "/v1/chat/completions"
ROUNDS = 4
LATE = 100
"""Looks at the objects, a tenth of a second apart, until threads that have nothing left to do must have ended."""


@pytest.fixture
def only_new_objects() -> Iterator[None]:
    """The garbage collector knows no objects from before, and collects none: nothing is to wait for it."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


async def ask(app: Any, path: str, body: Any, *, leaves: bool = False) -> int:
    """The status of a reply, whose client may leave after its first event."""
    given: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    given.put_nowait({"type": "http.request", "body": json.dumps(body).encode()})
    status = 0

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        if leaves and message["type"] == "http.response.body":
            given.put_nowait({"type": "http.disconnect"})

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app(scope, given.get, send)
    return status


def counts() -> Counter[str]:
    return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())


async def test_no_objects_are_left(state: ServerState, picture: Image.Image, only_new_objects: None) -> None:
    # One thread: a pool begins another whenever work comes before its last thread says that it is idle, and every
    # thread has objects of its own.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    app, messages = app_of(state), chat_about(picture, "Is there a dog in the image?")
    chat = {"messages": messages, "max_tokens": 3}
    seen = {"litellm_call_id": "call", "texts": ["There is a dog."], "input_type": "request"}
    policy = {"additional_provider_specific_params": {"grounding_policy": {"min_grounding": 0.5}}}
    image = messages[0]["content"][0]["image_url"]["url"]

    async def ask_all() -> None:
        statuses = [
            await ask(app, COMPLETIONS, {**chat, "n": 2, "temperature": 1.0}),
            await ask(app, COMPLETIONS, {**chat, "stream": True}),
            await ask(app, COMPLETIONS, {**chat, "stream": True, "max_tokens": 100}, leaves=True),
            await ask(app, COMPLETIONS, {**chat, "grounding_policy": {"min_grounding": 0.5, "max_retries": 1}}),
            await ask(app, "/v1/verify", {"messages": messages, "claims": ["There is a dog."]}),
            await ask(app, GUARDRAIL, {**seen, **policy, "images": [image]}),
            await ask(app, GUARDRAIL, {**seen, **policy, "input_type": "response"}),
            await ask(app, "/v1/score", {"messages": messages, "text": "No."}),
        ]
        assert statuses == [200] * len(statuses)
        assert await ask(app, COMPLETIONS, {**chat, "max_tokens": -1}) == 400

    for _ in range(2):
        await ask_all()
    before = counts()
    for _ in range(ROUNDS):
        await ask_all()
    grown = {}
    for _ in range(LATE):
        after = counts()
        grown = {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind] >= ROUNDS}
        if not grown:
            break
        await asyncio.sleep(0.1)
    assert grown == {}
    assert len(asyncio.all_tasks()) == 1
    assert state.in_flight == state.queue.running == state.queue.waiting == state.lvlm.batching.active == 0
