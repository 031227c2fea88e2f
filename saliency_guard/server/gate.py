"""What every request passes: the token, whether the server takes requests at all, its id, its log line, its metrics."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saliency_guard.server.errors import RequestError, error_reply
from saliency_guard.server.logs import LOGGER
from saliency_guard.server.record import CLIENT_LEFT, RequestRecord, record_of
from saliency_guard.server.reply import reported
from saliency_guard.server.settings import is_loopback
from saliency_guard.server.state import ServerState, unavailable

HEALTH = "/health"
READY = "/ready"
METRICS = "/metrics"
GUARDRAIL = "/beta/litellm_basic_guardrail_api"
TRY = "/"
PAGE = "/v1/page"
_IN_BROWSERS = {TRY, PAGE}
"""What people open in a browser, which asks them for the token: as the password, with any name."""

_PROBES = {HEALTH, READY, METRICS}
_PATIENCE = 1.0
_DISCARDED = 4_000_000


class Gate:
    """ASGI middleware around the routes.

    Args:
        app: the routes.
        state: the server.
        routes: paths that are told apart in metrics.
    """

    def __init__(self, app: ASGIApp, state: ServerState, routes: Iterable[str]) -> None:
        self._app = app
        self._state = state
        self._routes = frozenset(routes)
        key = state.settings.api_key
        self._digest = _digest(key.get_secret_value().encode()) if key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and the end of the server."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:  # A websocket: there is none here.
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        record = RequestRecord(path if path in self._routes else "other", scope["method"])
        record.of(scope)

        async def send_known(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", record.id.encode())]}
            await send(message)

        is_probe = path in _PROBES
        self._state.in_flight += not is_probe
        try:
            refusal = self._refusal(scope, path)
            if refusal is None:
                await self._app(scope, receive, send_known)
            else:
                record.error = refusal.code
                await refuse(refusal, scope, receive, send_known)
        except asyncio.CancelledError:
            record.status = record.status or CLIENT_LEFT
            raise
        except Exception as error:
            reported(error, record)
            if record.status:  # A part of the reply is sent already: what follows is for the server around this.
                raise
            await refuse(error, scope, receive, send_known)
        finally:
            self._state.in_flight -= not is_probe
            self._state.metrics.request(record)
            if not is_probe:
                LOGGER.info("request", extra=record.line())

    def _refusal(self, scope: Scope, path: str) -> RequestError | None:
        """Why a request is not even looked at; None where it is."""
        if path == HEALTH:
            return None
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._digest is None:
            # Without a token, a page in a browser must not reach the server under a name of its own.
            if not is_loopback(_host(headers.get(b"host", b""))):
                msg = "without a token this server is asked as 127.0.0.1 or localhost only"
                return RequestError(403, msg, code="wrong_host")
        elif not any(hmac.compare_digest(_digest(token), self._digest) for token in _tokens(headers, path)):
            msg = "this server wants the header 'Authorization: Bearer ...' with its token"
            scheme = 'Basic realm="saliency-guard: the token is the password"' if path in _IN_BROWSERS else "Bearer"
            return RequestError(401, msg, code="invalid_api_key", headers={"www-authenticate": scheme})
        if self._state.draining and path not in _PROBES:
            error = unavailable("the server is shutting down", "shutting_down")
            error.headers["connection"] = "close"
            return error
        return None


def _digest(token: bytes) -> bytes:
    """Tokens are compared by digests, so that the time says nothing, not even how long the right one is."""
    return hashlib.sha256(token).digest()


def _tokens(headers: dict[bytes, bytes], path: str) -> list[bytes]:
    """The tokens that a request shows; LiteLLM sends its guardrails' in a header of its own."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    shown = [token.strip()] if scheme.lower() == b"bearer" else []
    if scheme.lower() == b"basic" and path in _IN_BROWSERS:
        with contextlib.suppress(ValueError):  # No base64: no token either.
            shown.append(base64.b64decode(token, validate=True).partition(b":")[2])
    return [*shown, headers[b"x-api-key"]] if path == GUARDRAIL and b"x-api-key" in headers else shown


def _host(header: bytes) -> str:
    """The host's name without its port."""
    name = header.decode("latin-1")
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]


async def refuse(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an error; first what is left of a body is read, for a while: not all clients read a reply before that."""
    if not record_of(scope).has_body:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await _discard(receive)
    reply = error_reply(error)
    await JSONResponse(reply.body, reply.status, reply.headers)(scope, receive, send)


async def _discard(receive: Receive) -> None:
    size = 0
    while size < _DISCARDED:
        message: dict[str, Any] = dict(await receive())
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
