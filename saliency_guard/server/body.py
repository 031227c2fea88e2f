"""A request's body: no larger than is allowed, there in time, and JSON that says one thing."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from saliency_guard.server.errors import RequestError, invalid, invalid_body
from saliency_guard.server.record import record_of
from saliency_guard.server.settings import ServerSettings
from saliency_guard.storage import strict_json

Body = TypeVar("Body", bound="StrictBody")


class StrictBody(BaseModel):
    """A body that holds what it names and nothing else; null is as if a parameter were left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


async def read_body(request: Request, settings: ServerSettings, kind: type[Body]) -> Body:
    """A request's body.

    Args:
        request: whose body was not read yet.
        settings: how large it may be, and how long it may take.
        kind: what it is to be.

    Raises:
        RequestError: if it is too large, late, no JSON or something else.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        msg = "send JSON, with the header 'Content-Type: application/json'"
        raise RequestError(415, msg, code="unsupported_media_type")
    if request.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
        msg = "send the body as it is, without the header 'Content-Encoding'"
        raise RequestError(415, msg, code="unsupported_content_encoding")
    content = await _content(request, settings)
    record_of(request.scope).has_body = True
    return await asyncio.to_thread(_parsed, content, kind)


async def _content(request: Request, settings: ServerSettings) -> bytes:
    most = settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise _too_large(most)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise _too_large(most)
                pieces.append(piece)
    except TimeoutError as error:
        msg = f"the body did not arrive within {settings.body_timeout:g} s"
        raise RequestError(408, msg, code="body_timeout", headers={"connection": "close"}) from error
    return b"".join(pieces)


def _too_large(most: int) -> RequestError:
    msg = f"the body has more than {most} bytes: send fewer or smaller pictures"
    return RequestError(413, msg, code="body_too_large", headers={"connection": "close"})


def _parsed(content: bytes, kind: type[Body]) -> Body:
    try:
        value: Any = strict_json(content)
    except ValueError as error:  # Bytes that are no text, too.
        msg = f"the body is no JSON: {str(error)[:200]}"
        raise invalid(msg, code="invalid_json") from error
    if not isinstance(value, dict):
        msg = "the body must be a JSON object"
        raise invalid(msg, code="invalid_json")
    try:
        return kind.model_validate({name: each for name, each in value.items() if each is not None})
    except ValidationError as error:
        raise invalid_body(error) from error
