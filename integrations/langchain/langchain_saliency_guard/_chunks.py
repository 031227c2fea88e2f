"""Messages and chunks of a finished answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_saliency_guard._report import GROUNDING, GROUNDING_TOKENS, usage_metadata
from langchain_saliency_guard._tools import as_chunks, read_calls
from saliency_guard import LVLM, TokenGrounding
from saliency_guard.adapters import Finished, ReportDetail, Request, as_streamed, token_report

PROVIDER = "saliency-guard"


def token_chunk(token: TokenGrounding, detail: ReportDetail) -> ChatGenerationChunk:
    """A chunk with a token's text, and its report where tokens are reported."""
    return ChatGenerationChunk(message=AIMessageChunk(content=token.text, additional_kwargs=_tokens([token], detail)))


def _tokens(tokens: Sequence[TokenGrounding], detail: ReportDetail) -> dict[str, Any]:
    """The additional keyword arguments of a message with these tokens."""
    return {} if detail == "summary" else {GROUNDING_TOKENS: [token_report(token) for token in tokens]}


def last_chunks(
    lvlm: LVLM, end: Finished, request: Request, detail: ReportDetail, *, streams: bool
) -> Iterator[ChatGenerationChunk]:
    """The chunks that end an answer: tokens that were held back, tool calls, the report.

    Args:
        lvlm: the model that answered.
        end: the end of its answer.
        request: what was asked for.
        detail: how much reports hold.
        streams: whether there is a chunk for every token; otherwise all of them are one chunk.
    """
    info: dict[str, Any] = {
        "finish_reason": end.answer.finish_reason if end.answer is not None else "stop",
        "model_name": lvlm.model_id,
        "model_provider": PROVIDER,
        GROUNDING: end.report(detail),
    }
    tokens = end.answer.tokens if end.answer is not None and end.answer.text == end.text else ()
    if (request.tools or request.forced) and end.answer is not None and tokens:
        text, calls, invalid = read_calls(lvlm, end.answer, was_forced=bool(request.forced))
        chunk = AIMessageChunk(
            content=text,
            tool_call_chunks=as_chunks(calls, invalid),
            additional_kwargs=_tokens(tokens, detail),
        )
        info["finish_reason"] = "tool_calls" if calls else info["finish_reason"]
        yield ChatGenerationChunk(message=chunk)
    elif not streams and request.live:
        streamed = [as_streamed(token) for token in tokens]
        yield ChatGenerationChunk(message=AIMessageChunk(content=end.text, additional_kwargs=_tokens(streamed, detail)))
    elif request.policy is not None and tokens and streams:
        yield from (token_chunk(token, detail) for token in tokens)
    elif request.policy is not None:
        yield ChatGenerationChunk(message=AIMessageChunk(content=end.text, additional_kwargs=_tokens(tokens, detail)))
    last = AIMessageChunk(content="", usage_metadata=usage_metadata(end.usage), chunk_position="last")
    yield ChatGenerationChunk(message=last, generation_info=info)


def result_of(chunks: list[ChatGenerationChunk]) -> ChatResult:
    """All chunks merged into one message, as LangChain itself merges a stream."""
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    merged = whole.message
    assert isinstance(merged, AIMessageChunk)  # noqa: S101 - made in this module
    message = AIMessage(
        content=merged.content,
        tool_calls=merged.tool_calls,
        invalid_tool_calls=merged.invalid_tool_calls,
        usage_metadata=merged.usage_metadata,
        additional_kwargs=merged.additional_kwargs,
    )
    return ChatResult(generations=[ChatGeneration(message=message, generation_info=whole.generation_info)])
