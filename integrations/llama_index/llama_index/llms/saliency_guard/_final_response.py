"""The response that a guarded query engine gives out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)

from llama_index.llms.saliency_guard._evidence import with_grounding
from saliency_guard import GuardOutcome


class WarnedResponse(Response):
    """A response that is not accepted; `QueryEngineTool` hands ``str()`` of it to an agent, which has to see that."""

    def __str__(self) -> str:
        """The text, and a warning."""
        return f"{super().__str__()}\n{_warning(self.metadata)}"


class WarnedPydanticResponse(PydanticResponse):
    """As `WarnedResponse`, of an object."""

    def __str__(self) -> str:
        """The object as JSON, and a warning."""
        return f"{super().__str__()}\n{_warning(self.metadata)}"


def _warning(metadata: dict[str, Any] | None) -> str:
    report = (metadata or {})["grounding"]
    verdict = "is not grounded in its sources" if report["decision"] == "flagged" else "was not judged"
    return f"[Warning: this answer {verdict}: {report['reason']}. Do not rely on it.]"


def final_response(response: RESPONSE_TYPE, text: str, report: dict[str, Any], outcome: GuardOutcome) -> RESPONSE_TYPE:
    """A response of the same type with this text and report, and without any refused text.

    Args:
        response: of the inner engine.
        text: what is given out.
        report: of its grounding.
        outcome: what the policy decided.
    """
    metadata = with_grounding(response.metadata, report)
    nodes = response.source_nodes
    pieces = [token.text for token in outcome.answer.tokens] if outcome.answer is not None else []
    pieces = pieces if "".join(pieces) == text else [text]
    if isinstance(response, StreamingResponse):
        return StreamingResponse(_stream(pieces), nodes, metadata)
    if isinstance(response, AsyncStreamingResponse):
        return AsyncStreamingResponse(_astream(pieces), nodes, metadata)
    is_low = not outcome.passes and outcome.decision in ("flagged", "unscored")
    if isinstance(response, PydanticResponse) and text == str(response):
        return (WarnedPydanticResponse if is_low else PydanticResponse)(response.response, nodes, metadata)
    return (WarnedResponse if is_low else Response)(text, nodes, metadata)


def _stream(pieces: Sequence[str]) -> Generator[str, None, None]:
    yield from pieces


async def _astream(pieces: Sequence[str]) -> AsyncGenerator[str, None]:
    for piece in pieces:
        yield piece
