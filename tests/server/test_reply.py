"""Work that is stopped when nobody waits for it, without a server around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from saliency_guard.errors import ConfigError
from saliency_guard.server import reply
from saliency_guard.server.record import CLIENT_LEFT, RequestRecord
from saliency_guard.server.reply import ClientLeftError, JsonReply, StreamReply, until_disconnect


class Client:
    """One client of one request."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.sent: list[Any] = []
        self.record = RequestRecord("/v1/score", "POST")

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def asks(self, reply: Any) -> None:
        scope: dict[str, Any] = {"type": "http"}
        self.record.of(scope)
        await reply(scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


class Work:
    """Work that ends when it is cancelled, and says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.stopped = False

    async def run(self) -> dict[str, Any]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # It takes a moment, and is waited for.
            self.stopped = True
        return {}

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        yield {"first": 1}
        await self.run()


async def test_work_comes_to_its_end_while_the_client_waits() -> None:
    client = Client()

    async def work() -> dict[str, Any]:
        return {"a": "ü"}

    await client.asks(JsonReply(work(), 5.0))
    assert client.status == 200
    assert json.loads(client.body) == {"a": "ü"}


@pytest.mark.parametrize("streams", [False, True])
async def test_a_client_that_leaves_ends_the_work(streams: bool) -> None:
    client, work = Client(), Work()
    reply = StreamReply(work.events(), None) if streams else JsonReply(work.run(), None)
    task = asyncio.ensure_future(client.asks(reply))
    await work.begun.wait()
    client.left.set()
    await task
    assert work.stopped
    assert client.record.status == CLIENT_LEFT


async def test_a_deadline_ends_the_work() -> None:
    client, work = Client(), Work()
    await client.asks(JsonReply(work.run(), 0.02))
    assert work.stopped
    assert client.status == 504
    assert json.loads(client.body)["error"]["code"] == "deadline_exceeded"
    assert client.record.error == "deadline_exceeded"


async def test_a_stream_that_fails_late_says_so_in_the_stream() -> None:
    client, work = Client(), Work()
    await client.asks(StreamReply(work.events(), 0.05))
    assert work.stopped
    assert client.status == 200
    first, second = (json.loads(line.removeprefix("data: ")) for line in client.body.split("\n\n") if line)
    assert first == {"first": 1}
    assert second["error"]["code"] == "deadline_exceeded"
    assert client.sent[-1]["more_body"] is False


async def test_a_stream_that_fails_at_once_has_a_status() -> None:
    async def events() -> AsyncGenerator[dict[str, Any], None]:
        msg = "temperature is wrong"
        raise ConfigError(msg)
        yield {}

    client = Client()
    await client.asks(StreamReply(events(), None))
    assert client.status == 400
    assert json.loads(client.body)["error"]["message"] == "temperature is wrong"


async def test_a_stream_ends_with_done() -> None:
    async def events() -> AsyncGenerator[dict[str, Any], None]:
        yield {"text": "line\nbreak"}

    client = Client()
    await client.asks(StreamReply(events(), None))
    assert client.body == 'data: {"text": "line\\nbreak"}\n\ndata: [DONE]\n\n'
    assert dict(client.sent[0]["headers"])[b"content-type"].startswith(b"text/event-stream")


async def test_who_is_cancelled_cancels_the_work() -> None:
    work, client = Work(), Client()
    task = asyncio.ensure_future(until_disconnect(client.receive, work.run()))
    await work.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.stopped


async def test_the_work_s_error_is_its_own() -> None:
    async def work() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await until_disconnect(Client().receive, work())
    client = Client()
    client.left.set()
    with pytest.raises(ClientLeftError):
        await until_disconnect(client.receive, Work().run())


class Deaf(Client):
    """A client that takes the beginning and reads nothing after it."""

    async def send(self, message: Any) -> None:
        if self.sent:
            await asyncio.Event().wait()
        await super().send(message)


async def test_a_client_that_reads_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "_PATIENCE", 0.05)
    client, work = Deaf(), Work()
    async with asyncio.timeout(60):
        await client.asks(StreamReply(work.events(), 0.05))
    assert client.record.error == "deadline_exceeded"
    assert len(client.sent) == 1
