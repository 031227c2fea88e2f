"""The record of one request: for its log line, and for the metrics."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from saliency_guard.answer import Usage

_KEY = "saliency_guard.record"
CLIENT_LEFT = 499
"""The status of a request whose client did not wait for the answer, as nginx has it."""


def new_id(prefix: str) -> str:
    """An id that nothing else has."""
    return f"{prefix}-{uuid.uuid4().hex}"


@dataclass(slots=True)
class RequestRecord:
    """One request.

    Attributes:
        route: its path, or ``"other"``.
        method: of HTTP.
        id: given to the client as ``x-request-id``.
        status: of the reply, or `CLIENT_LEFT`.
        error: code of the error that was sent instead of an answer.
        prompt_tokens: tokens of its prompts.
        completion_tokens: tokens that were written.
        first_token_seconds: from its start to the first token of a stream; None where there was none.
        decisions: what a policy decided on each of its answers.
        groundings: of its answers.
        has_body: whether its body was read to the end.
        contents: questions and answers, where they are logged.
    """

    route: str
    method: str
    id: str = field(default_factory=lambda: new_id("req"))
    status: int = 0
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float | None = None
    decisions: list[str | None] = field(default_factory=list)
    groundings: list[float | None] = field(default_factory=list)
    has_body: bool = False
    contents: dict[str, Any] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._started

    def used(self, usage: Usage) -> None:
        """Add tokens that were read and written."""
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens

    def token(self) -> None:
        """A token of a stream is there."""
        if self.first_token_seconds is None:
            self.first_token_seconds = self.seconds

    def of(self, scope: Any) -> None:
        """Make it the record of an ASGI request."""
        scope[_KEY] = self

    def line(self) -> dict[str, Any]:
        """What is logged of it."""
        return {
            "event": "request",
            "id": self.id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "seconds": round(self.seconds, 4),
            "first_token_seconds": self.first_token_seconds and round(self.first_token_seconds, 4),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "decisions": self.decisions,
            "groundings": self.groundings,
            "error": self.error,
            **self.contents,
        }


def record_of(scope: Any) -> RequestRecord:
    """The record of an ASGI request."""
    record: RequestRecord = scope[_KEY]
    return record
