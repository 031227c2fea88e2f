"""Replies whose work is stopped when nobody waits for it any more: the client left, or the deadline passed."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from saliency_guard.errors import DeadlineError
from saliency_guard.server.errors import ErrorReply, error_reply
from saliency_guard.server.logs import LOGGER
from saliency_guard.server.record import CLIENT_LEFT, RequestRecord, record_of

Result = TypeVar("Result")
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_SERVER_ERROR = 500
_PATIENCE = 5.0
"""Seconds that a client has to take an error."""


class ClientLeftError(Exception):
    """The client closed the connection."""


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of some work; it is cancelled, and waited for, if the client leaves.

    Args:
        receive: of the request, whose body was read.
        work: what is to be done.

    Raises:
        ClientLeftError: if the client left.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeftError
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Reply(Response, ABC):
    """What both kinds of replies share: the deadline, the client that leaves, and errors."""

    def __init__(self, timeout: float | None) -> None:
        super().__init__()
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do the work and send what comes of it."""
        record = record_of(scope)
        left = None if self._timeout is None else max(0.0, self._timeout - record.seconds)
        try:
            async with asyncio.timeout(left):
                await until_disconnect(receive, self._send(send))
        except ClientLeftError:
            record.status = CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told, and the log
            if isinstance(error, TimeoutError) and not isinstance(error, DeadlineError):
                msg = f"there was no answer within {self._timeout:g} s"
                error = DeadlineError(msg)
            reply = reported(error, record)
            # A client that reads nothing would keep the connection, and the server from its end, for ever.
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._send_error(reply, scope, receive, send)

    @abstractmethod
    async def _send(self, send: Send) -> None:
        """Do the work and send it."""

    async def _send_error(self, reply: ErrorReply, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(reply.body, reply.status, reply.headers)(scope, receive, send)


def reported(error: Exception, record: RequestRecord) -> ErrorReply:
    """An error as it is sent, noted in the request's record; errors of the server itself are logged, too."""
    reply = error_reply(error)
    record.error = reply.error["code"]
    if reply.status == _SERVER_ERROR:
        LOGGER.error("a request failed", exc_info=error, extra={"event": "error", "id": record.id})
    return reply


class JsonReply(_Reply):
    """One JSON object.

    Args:
        work: makes it.
        timeout: seconds since the request came; None is no limit.
    """

    def __init__(self, work: Coroutine[Any, Any, dict[str, Any]], timeout: float | None) -> None:
        super().__init__(timeout)
        self._work = work

    async def _send(self, send: Send) -> None:
        reply = JSONResponse(await self._work)
        await send({"type": "http.response.start", "status": 200, "headers": reply.raw_headers})
        await send({"type": "http.response.body", "body": reply.body})


class StreamReply(_Reply):
    """Server-sent events, a JSON object each, and ``[DONE]``.

    Nothing is sent before the first event is there: what goes wrong until then has a status of its own.

    Args:
        events: makes the objects.
        timeout: seconds since the request came; None is no limit.
    """

    def __init__(self, events: AsyncGenerator[dict[str, Any], None], timeout: float | None) -> None:
        super().__init__(timeout)
        self._events = events
        self._has_begun = False

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                if not self._has_begun:
                    self._has_begun = True
                    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await _send_event(send, json.dumps(event, ensure_ascii=False, allow_nan=False))
        await _send_event(send, "[DONE]", is_last=True)

    async def _send_error(self, reply: ErrorReply, scope: Scope, receive: Receive, send: Send) -> None:
        if self._has_begun:
            await _send_event(send, json.dumps(reply.body), is_last=True)
        else:
            await super()._send_error(reply, scope, receive, send)


async def _send_event(send: Send, data: str, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": not is_last})
