"""Events of grounding: which there are, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.llms.saliency_guard import (
    GroundingRejectionEvent,
    GroundingScoreEvent,
    SaliencyGuardedLVLM,
)
from saliency_guard import (
    GuardPolicy,
    SGRSConfig,
    SignalRule,
)

Ask = Callable[..., list[ChatMessage]]
HIGH = GuardPolicy(min_grounding=1.0, max_retries=1)


def test_rejections_are_told(llm: SaliencyGuardedLVLM, ask: Ask, heard: list[Any]) -> None:
    response = llm.model_copy(update={"report": "tokens"}).chat(ask(), sgrs=SGRSConfig(alpha=0.9), max_tokens=12)
    events = [event for event in heard if isinstance(event, GroundingRejectionEvent)]
    rejected = [candidate for token in response.raw["grounding"]["tokens"] for candidate in token["rejected"]]
    assert [item.text for item in events] == [candidate["text"] for candidate in rejected]
    assert events
    assert all(item.threshold is not None and item.saliency < item.threshold for item in events)
    assert response.logprobs is not None
    assert sum(len(entry) - 1 for entry in response.logprobs) == len(rejected)


def test_events_say_which_attempt_they_are_about(llm: SaliencyGuardedLVLM, ask: Ask, heard: list[Any]) -> None:
    refuses = GuardPolicy(rules=(SignalRule("logprob", below=1.0),), max_retries=1)  # Every token breaks it.
    llm.chat(ask(), policy=refuses, seed=1, sgrs=SGRSConfig(alpha=0.9), max_tokens=12)
    rejections = [event.attempt for event in heard if isinstance(event, GroundingRejectionEvent)]
    (chosen,) = [event.attempt for event in heard if isinstance(event, GroundingScoreEvent)]
    assert chosen in (0, 1)
    assert set(rejections) == {chosen}
    heard.clear()
    unsure = HIGH.model_copy(update={"on_low": "fallback", "fallback": lambda *_: "Look again."})
    llm.chat(ask(), policy=unsure)
    assert [event.attempt for event in heard if isinstance(event, GroundingScoreEvent)] == [None]
