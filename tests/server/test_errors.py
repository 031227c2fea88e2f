from __future__ import annotations

import pytest
from pydantic import ValidationError

from saliency_guard import GroundedAnswer, LowGroundingError, SaliencyGuardError, Usage
from saliency_guard.errors import (
    ConfigError,
    ContextLengthError,
    DeadlineError,
    ImageError,
    MessageError,
    MissingExtraError,
    NonFiniteError,
    QueueFullError,
)
from saliency_guard.guard.outcome import Attempt
from saliency_guard.server.chat_body import ChatBody
from saliency_guard.server.errors import RequestError, error_reply, invalid_body

ANSWER = GroundedAnswer(
    text="A secret cat.",
    tokens=(),
    finish_reason="stop",
    usage=Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
    model_id="none",
)
REFUSED = Attempt(answer=ANSWER, score=0.1, refused="grounding 0.100 is below 0.900")


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (RequestError(429, "later", kind="rate_limit_error", code="queue_full"), 429, "rate_limit_error", "queue_full"),
        (LowGroundingError(ANSWER, 0.1, 0.9, (REFUSED,)), 422, "low_grounding_error", "low_grounding"),
        (
            ContextLengthError("long", needed=9, limit=4),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (ImageError("no picture"), 400, "invalid_request_error", "invalid_image"),
        (MessageError("no message"), 400, "invalid_request_error", "invalid_value"),
        (ConfigError("wrong"), 400, "invalid_request_error", "invalid_value"),
        (DeadlineError("late"), 504, "timeout_error", "deadline_exceeded"),
        (QueueFullError("later"), 429, "rate_limit_error", "queue_full"),
        (MissingExtraError("llguidance", "structured"), 501, "server_error", "missing_extra"),
        (NonFiniteError("NaN"), 500, "server_error", "model_error"),
        (SaliencyGuardError("else"), 500, "server_error", "model_error"),
        (KeyError("a secret"), 500, "server_error", "internal_error"),
        (MemoryError(), 500, "server_error", "internal_error"),
    ],
)
def test_every_error_has_a_status_and_a_type(error: Exception, status: int, kind: str, code: str) -> None:
    reply = error_reply(error)
    assert reply.status == status
    told = reply.body["error"]
    assert (told["type"], told["code"]) == (kind, code)
    assert "secret" not in str(reply.body)
    # Clients ask again after an error of the server, which would only repeat it.
    assert status in {400, 429} or reply.headers["x-should-retry"] == "false"


def test_a_refused_answer_is_reported_without_its_text() -> None:
    report = error_reply(LowGroundingError(ANSWER, 0.1, 0.9, (REFUSED,))).error["grounding"]
    assert report["decision"] == "raised"
    assert report["attempts"][0]["reason"] == "grounding 0.100 is below 0.900"


def test_unknown_parameters_are_named_first() -> None:
    with pytest.raises(ValidationError) as raised:
        ChatBody.model_validate({"messages": [], "n": "x", "prediction": {}})
    error = invalid_body(raised.value)
    assert (error.param, error.code) == ("prediction", "unsupported_parameter")
    with pytest.raises(ValidationError) as raised:
        ChatBody.model_validate({"messages": [{}], "n": 0})
    assert invalid_body(raised.value).param == "n"
