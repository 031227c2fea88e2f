"""What a request gets instead of an answer: errors in the form that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from saliency_guard.adapters.report import raised_report
from saliency_guard.errors import (
    ConfigError,
    ContextLengthError,
    DeadlineError,
    ImageError,
    InputError,
    MissingExtraError,
    QueueFullError,
    SaliencyGuardError,
    shown,
)
from saliency_guard.guard.outcome import LowGroundingError

INVALID = "invalid_request_error"
_MOST_PROBLEMS = 3
_NOT_AGAIN = {"x-should-retry": "false"}
"""OpenAI's clients ask again after an error of the server, unless this says that it would be no use."""


class RequestError(SaliencyGuardError):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        kind: ``type`` of the error's body.
        code: of the error's body.
        param: which parameter of the request is wrong; None where it is none alone.
        headers: of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as it is sent.

    Attributes:
        status: of HTTP.
        error: the object under ``error``.
        headers: of the reply.
    """

    status: int
    error: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The reply's body."""
        return {"error": self.error}


def error_reply(error: BaseException) -> ErrorReply:
    """What is sent for an error; of one that is not ours nothing is told."""
    if isinstance(error, RequestError):
        return _reply(error.status, error, error.kind, error.code, param=error.param, headers=error.headers)
    if isinstance(error, LowGroundingError):
        reply = _reply(422, error, "low_grounding_error", "low_grounding", headers=_NOT_AGAIN)
        reply.error["grounding"] = raised_report(error)
        return reply
    if isinstance(error, ContextLengthError):
        return _reply(400, error, INVALID, "context_length_exceeded", param="messages")
    if isinstance(error, ImageError):
        return _reply(400, error, INVALID, "invalid_image", param="messages")
    if isinstance(error, (InputError, ConfigError)):
        return _reply(400, error, INVALID, "invalid_value")
    if isinstance(error, QueueFullError):
        return _reply(429, error, "rate_limit_error", "queue_full", headers={"Retry-After": "1"})
    if isinstance(error, DeadlineError):
        return _reply(504, error, "timeout_error", "deadline_exceeded", headers=_NOT_AGAIN)
    if isinstance(error, MissingExtraError):
        return _reply(501, error, "server_error", "missing_extra", headers=_NOT_AGAIN)
    if isinstance(error, SaliencyGuardError):
        return _reply(500, error, "server_error", "model_error", headers=_NOT_AGAIN)
    unknown = RuntimeError("the server failed: its log says how")
    return _reply(500, unknown, "server_error", "internal_error", headers=_NOT_AGAIN)


def _reply(
    status: int,
    error: BaseException,
    kind: str,
    code: str | None = None,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ErrorReply:
    return ErrorReply(status, {"message": str(error), "type": kind, "param": param, "code": code}, headers or {})


def invalid(message: str, param: str | None = None, *, code: str = "invalid_value") -> RequestError:
    """An error for a request that says something wrong."""
    return RequestError(400, message, code=code, param=param)


def invalid_body(error: ValidationError) -> RequestError:
    """What pydantic says of a body; parameters that do not exist are named first."""
    problems = error.errors(include_url=False, include_context=False)
    unknown = [str(item["loc"][0]) for item in problems if item["type"] == "extra_forbidden" and len(item["loc"]) == 1]
    if unknown:
        msg = f"the parameter {shown(unknown[0])} is not supported: leave it out"
        return invalid(msg, unknown[0][:100], code="unsupported_parameter")
    listed = "; ".join(f"{_place(item['loc'])}: {item['msg']}" for item in problems[:_MOST_PROBLEMS])
    return invalid(listed, str(problems[0]["loc"][0]) if problems[0]["loc"] else None)


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:100] for part in loc) or "the body"
