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
from llama_index.core.schema import NodeWithScore

from llama_index.llms.saliency_guard._evidence import with_grounding
from saliency_guard import GuardOutcome
from saliency_guard.adapters import is_low, warning


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


class WarnedStreamingResponse(StreamingResponse):
    """As `WarnedResponse`, as a stream, which ends with the warning."""

    def __str__(self) -> str:
        """The text, and a warning."""
        return str(self.get_response())

    def get_response(self) -> Response:
        """The whole response; its text is without the warning."""
        text = super().get_response().response or ""
        return WarnedResponse(text.removesuffix(_stream_end(self.metadata)), self.source_nodes, self.metadata)


class WarnedAsyncStreamingResponse(AsyncStreamingResponse):
    """As `WarnedStreamingResponse`, for event loops."""

    async def get_response(self) -> Response:
        """The whole response; its text is without the warning."""
        text = (await super().get_response()).response or ""
        return WarnedResponse(text.removesuffix(_stream_end(self.metadata)), self.source_nodes, self.metadata)


def _warning(metadata: dict[str, Any] | None) -> str:
    report = (metadata or {})["grounding"]
    return warning(report["decision"], report["reason"], "its sources")


def _stream_end(metadata: dict[str, Any] | None) -> str:
    """The last piece of a stream that is not accepted."""
    return f"\n{_warning(metadata)}"


def final_response(
    response: RESPONSE_TYPE,
    text: str,
    report: dict[str, Any],
    outcome: GuardOutcome,
    *,
    evidence: Sequence[NodeWithScore] | None = None,
) -> RESPONSE_TYPE:
    """A response of the same type with this text and report, and without any refused text.

    Args:
        response: of the inner engine.
        text: what is given out.
        report: of its grounding.
        outcome: what the policy decided.
        evidence: the nodes that a replaced answer was judged by; None where the answer is not replaced. Other nodes and
            metadata of the engine may hold the answers that it was made of.
    """
    nodes = list(response.source_nodes if evidence is None else evidence)
    names = {node.node.node_id for node in nodes}
    kept = {name: data for name, data in (response.metadata or {}).items() if evidence is None or name in names}
    metadata = with_grounding(kept, report)
    pieces = [token.text for token in outcome.answer.tokens] if outcome.answer is not None else []
    pieces = pieces if "".join(pieces) == text else [text]
    low = is_low(outcome.decision, passes=outcome.passes)
    if low:
        pieces = [*pieces, _stream_end(metadata)]
    if isinstance(response, StreamingResponse):
        return (WarnedStreamingResponse if low else StreamingResponse)(_stream(pieces), nodes, metadata)
    if isinstance(response, AsyncStreamingResponse):
        return (WarnedAsyncStreamingResponse if low else AsyncStreamingResponse)(_astream(pieces), nodes, metadata)
    if isinstance(response, PydanticResponse) and text == str(response):
        return (WarnedPydanticResponse if low else PydanticResponse)(response.response, nodes, metadata)
    return (WarnedResponse if low else Response)(text, nodes, metadata)


def _stream(pieces: Sequence[str]) -> Generator[str, None, None]:
    yield from pieces


async def _astream(pieces: Sequence[str]) -> AsyncGenerator[str, None]:
    for piece in pieces:
        yield piece
