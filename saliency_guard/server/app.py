"""The routes of the server, as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from saliency_guard.errors import SaliencyGuardError
from saliency_guard.server.body import read_body
from saliency_guard.server.chat_body import ChatBody, chat_call
from saliency_guard.server.completion import Completion
from saliency_guard.server.errors import RequestError
from saliency_guard.server.gate import GUARDRAIL, HEALTH, METRICS, PAGE, READY, TRY, Gate, refuse
from saliency_guard.server.guardrail import GuardrailBody, guardrail
from saliency_guard.server.metrics import CONTENT_TYPE
from saliency_guard.server.page import PageBody, answer_page, try_page
from saliency_guard.server.record import CLIENT_LEFT, record_of
from saliency_guard.server.reply import JsonReply, StreamReply, reported
from saliency_guard.server.scoring import ScoreBody, VerifyBody, score, verify
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState

COMPLETIONS = "/v1/chat/completions"
MODELS = "/v1/models"
SCORE = "/v1/score"
VERIFY = "/v1/verify"
_ROUTES = (TRY, HEALTH, READY, METRICS, MODELS, COMPLETIONS, SCORE, VERIFY, PAGE, GUARDRAIL)


def create_app(settings: ServerSettings | None = None) -> FastAPI:
    """The server as an ASGI application, for any server of such; its model is loaded when it starts.

    Args:
        settings: of the server.
    """
    return app_of(ServerState(settings or ServerSettings()))


def app_of(state: ServerState) -> FastAPI:
    """The application of a server's state."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield

    # No pages about itself: they would load scripts from elsewhere, and are behind the token anyway.
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, state=state, routes=_ROUTES)
    routes = _Routes(state)
    get_routes: dict[str, Callable[..., Awaitable[Response]]] = {
        TRY: routes.form,
        HEALTH: routes.health,
        READY: routes.ready,
        METRICS: routes.metrics,
        MODELS: routes.models,
        MODELS + "/{name:path}": routes.model,
    }
    post_routes: dict[str, Callable[..., Awaitable[Response]]] = {
        COMPLETIONS: routes.completions,
        SCORE: routes.score,
        VERIFY: routes.verify,
        PAGE: routes.page,
        GUARDRAIL: routes.guardrail,
    }
    for method, paths in (("GET", get_routes), ("POST", post_routes)):
        for path, route in paths.items():
            app.add_api_route(path, route, methods=[method], response_model=None)
    app.add_exception_handler(SaliencyGuardError, _refused)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(HTTPException, _no_route)
    return app


class _Routes:
    """What answers each route."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def form(self) -> Response:
        """The page to try the model in a browser."""
        settings = self._state.settings
        return HTMLResponse(try_page(settings.name, settings.max_images), headers={"x-frame-options": "DENY"})

    async def page(self, request: Request) -> Response:
        """An answer's page."""
        body = await read_body(request, self._state.settings, PageBody)
        work = answer_page(self._state, record_of(request.scope), body)
        return JsonReply(work, self._state.settings.timeout)

    async def health(self) -> Response:
        """Whether the process is alive and able to answer."""
        failed = self._state.failure is not None
        return JSONResponse({"status": "failed" if failed else "ok"}, 503 if failed else 200)

    async def ready(self) -> Response:
        """Whether requests are answered now."""
        state = self._state
        status = "ready" if state.ready else "shutting down" if state.draining else "loading"
        return JSONResponse({"status": status}, 200 if state.ready else 503)

    async def metrics(self) -> Response:
        """For Prometheus."""
        return Response(self._state.metrics.text(), media_type=CONTENT_TYPE)

    async def models(self) -> Response:
        """The one model."""
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, name: str) -> Response:
        """The one model, by its name."""
        self._state.require_name(name)
        return JSONResponse(self._card())

    def _card(self) -> dict[str, Any]:
        lvlm = self._state.lvlm
        return {
            "id": self._state.settings.name,
            "object": "model",
            "created": self._state.created,
            "owned_by": "saliency-guard",
            "root": lvlm.model_id,
            "max_model_len": lvlm.context_length,
            "calibrated": lvlm.calibrator is not None,
        }

    async def completions(self, request: Request) -> Response:
        """OpenAI's chat completions."""
        state, record = self._state, record_of(request.scope)
        body = await read_body(request, state.settings, ChatBody)
        model = state.require_name(body.model)
        call = await asyncio.to_thread(chat_call, body, state.settings)
        completion = Completion(state, call, record, model)
        if call.stream:
            return StreamReply(completion.stream(), call.timeout)
        return JsonReply(completion.whole(), call.timeout)

    async def score(self, request: Request) -> Response:
        """What an answer from elsewhere rests on."""
        body = await read_body(request, self._state.settings, ScoreBody)
        work = score(self._state, record_of(request.scope), body)
        return JsonReply(work, self._state.settings.timeout)

    async def verify(self, request: Request) -> Response:
        """Whether statements hold."""
        body = await read_body(request, self._state.settings, VerifyBody)
        work = verify(self._state, record_of(request.scope), body)
        return JsonReply(work, self._state.settings.timeout)

    async def guardrail(self, request: Request) -> Response:
        """LiteLLM's generic guardrail."""
        body = await read_body(request, self._state.settings, GuardrailBody)
        work = guardrail(self._state, record_of(request.scope), body)
        return JsonReply(work, self._state.settings.timeout)


async def _refused(request: Request, error: Exception) -> Response:
    """An error before there was any work."""
    return _Refusal(error, request)


async def _left(request: Request, _: Exception) -> Response:
    record_of(request.scope).status = CLIENT_LEFT
    return Response(status_code=CLIENT_LEFT)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    msg = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return _Refusal(RequestError(error.status_code, msg, code="no_such_route", headers=error.headers), request)


class _Refusal(Response):
    """An error, after what is left of the body."""

    def __init__(self, error: Exception, request: Request) -> None:
        super().__init__()
        self._error = error
        self._record = record_of(request.scope)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        reported(self._error, self._record)
        await refuse(self._error, scope, receive, send)
