"""Responses and events of one call, from what happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
    MessageRole,
    TextBlock,
)
from llama_index.core.instrumentation.events import BaseEvent

from llama_index.llms.saliency_guard._tools import answer_blocks
from llama_index.llms.saliency_guard.events import (
    GroundingRejectionEvent,
    GroundingRetryEvent,
    GroundingScoreEvent,
    dispatcher,
)
from saliency_guard import LVLM, Attempt, GroundedAnswer, GuardPolicy, TokenGrounding
from saliency_guard.adapters.run import Finished, Happening, token_report
from saliency_guard.adapters.settings import Request

GROUNDING = "grounding"
"""Key of ``raw`` and ``additional_kwargs``."""

Happened = tuple[list[BaseEvent], ChatResponse | None]


@dataclass(slots=True)
class _Shown:
    """What was given out so far."""

    text: str = ""
    tokens: list[TokenGrounding] = field(default_factory=list)

    def token(self, token: TokenGrounding) -> ChatResponse:
        """One token more."""
        self.text += token.text
        self.tokens.append(token)
        report = {GROUNDING: None, "tokens": [token_report(one) for one in self.tokens]}
        return ChatResponse(
            message=ChatMessage(self.text, role=MessageRole.ASSISTANT),
            delta=token.text,
            raw={GROUNDING: report},
            logprobs=_logprobs(self.tokens),
            additional_kwargs={GROUNDING: report},
        )


def responses(lvlm: LVLM, items: Iterable[Happening], request: Request) -> Iterator[Happened]:
    """Responses as in a stream, the last one whole; and events to be told before each.

    Args:
        lvlm: that answers.
        items: what happens, from `saliency_guard.adapters.run.happenings`.
        request: what was asked for.
    """
    shown = _Shown()
    refused: list[BaseEvent] = []
    attempts = 0
    for item in items:
        if isinstance(item, TokenGrounding):
            yield list(_rejections(item)), shown.token(item) if request.live else None
        elif isinstance(item, Attempt):
            # That there is a retry is known once there is another attempt.
            yield refused, None
            refused = [retry_event(attempts, item)] if not item.accepted else []
            attempts += 1
        else:
            yield from _held_back(item, request, shown)
            yield [GroundingScoreEvent(report=item.report)], _whole(lvlm, item, request, shown)


def _held_back(end: Finished, request: Request, shown: _Shown) -> Iterator[Happened]:
    """The tokens of the answer that a policy decided for."""
    decided = end.answer is not None and end.outcome is not None and end.answer.text == end.text
    for token in end.answer.tokens if decided and end.answer is not None else ():
        plain = not request.tools and not request.forced
        yield list(_rejections(token)), shown.token(token) if plain else None


def _whole(lvlm: LVLM, end: Finished, request: Request, shown: _Shown) -> ChatResponse:
    """The last response of a stream: all that is known."""
    answer, report, usage = end.answer, end.report, end.usage.model_dump()
    raw: dict[str, Any] = {
        GROUNDING: report,
        "model": lvlm.model_id,
        "finish_reason": answer.finish_reason if answer is not None else "stop",
        "usage": usage,
    }
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=end.text)])
    if answer is not None and answer.text == end.text and (request.tools or request.forced):
        blocks, malformed = answer_blocks(lvlm, answer, was_forced=bool(request.forced))
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)
        raw["invalid_tool_calls"] = malformed
    said = message.content or ""
    return ChatResponse(
        message=message,
        delta=said if not shown.tokens else "",
        raw=raw,
        logprobs=_logprobs(answer.tokens) if answer is not None else None,
        additional_kwargs={GROUNDING: report, **usage},
    )


def retry_event(number: int, attempt: Attempt) -> GroundingRetryEvent:
    """That an answer was refused and another one is drawn."""
    return GroundingRetryEvent(
        attempt=number, score=attempt.score, refused=attempt.problem or "", text=attempt.answer.text
    )


def tell_retry(number: int, policy: GuardPolicy, came: GroundedAnswer | Attempt) -> None:
    """Tell of a refused answer that another one is drawn after; nothing is refused where a policy wants the best."""
    attempt = came if isinstance(came, Attempt) else policy.judge(came)
    if not attempt.accepted:
        dispatcher.event(retry_event(number, attempt))


def _rejections(token: TokenGrounding) -> Iterator[BaseEvent]:
    for one in token.rejected:
        yield GroundingRejectionEvent(
            **one.model_dump(), threshold=token.threshold, position=token.position, taken=token.text
        )


def _logprobs(tokens: Sequence[TokenGrounding]) -> list[list[LogProb]]:
    """For every position the token that was taken, then those that SGRS struck out."""
    return [
        [_logprob(token.text, token.logprob), *(_logprob(one.text, one.logprob) for one in token.rejected)]
        for token in tokens
    ]


def _logprob(text: str, logprob: float) -> LogProb:
    return LogProb(token=text, logprob=logprob, bytes=list(text.encode()))


def completion(response: ChatResponse) -> CompletionResponse:
    """A chat's response as that of a completion; nothing is lost."""
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )
