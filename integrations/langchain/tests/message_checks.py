"""What tests of the chat model compare, and what they listen with."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import AIMessageChunk

from langchain_saliency_guard import GroundingCallbackHandler


class Heard(GroundingCallbackHandler):
    """Keeps the events that it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.runs: set[UUID] = set()

    def on_grounding_token(self, token: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("token", token))
        self.runs.add(run_id)

    def on_grounding_report(self, report: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("report", report))
        self.runs.add(run_id)

    def on_grounding_rejection(self, rejection: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("rejection", rejection))

    def on_grounding_retry(self, attempt: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("retry", attempt))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [data for kind, data in self.events if kind == name]


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


def close(first: Any, second: Any) -> bool:
    """Whether two reports are equal, but for the last bits of float32: answers are written and scored side by side."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(close(value, second[name]) for name, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return first == pytest.approx(second, rel=1e-4, abs=1e-5)
    return bool(first == second)


def same(first: Any, second: Any) -> bool:
    names = ("content", "response_metadata", "usage_metadata")
    return all(close(getattr(first, name), getattr(second, name)) for name in names) and same_tokens(
        first.additional_kwargs.get("grounding_tokens", []), second.additional_kwargs.get("grounding_tokens", [])
    )


def same_tokens(live: list[dict[str, Any]], finished: list[dict[str, Any]]) -> bool:
    """A finished answer is scored in longer pieces than the tokens of a stream: the last bits of float32 differ."""
    return len(live) == len(finished) and all(
        (first["text"], first["token_id"]) == (second["text"], second["token_id"])
        and (first["saliency"] or 0.0) == pytest.approx(second["saliency"] or 0.0, rel=1e-3)
        for first, second in zip(live, finished, strict=True)
    )


def alike(first: Any, second: Any) -> bool:
    """Written side by side, the last bits of float32 differ."""
    left, right = (message.response_metadata["grounding"] for message in (first, second))
    return bool(
        first.content == second.content
        and first.usage_metadata == second.usage_metadata
        and (left["score"] is None) == (right["score"] is None)
        and left["shares"] == pytest.approx(right["shares"], rel=1e-3)
        and (left["score"] or 0.0) == pytest.approx(right["score"] or 0.0, abs=1e-3)
    )
