"""The responses and events of a call, made from the events of its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    raised_event,
)
from saliency_guard import (
    LVLM,
    Attempt,
    GroundedAnswer,
    GuardPolicy,
    LowGroundingError,
    TokenGrounding,
)
from saliency_guard.adapters import (
    Finished,
    ReportDetail,
    Request,
    RunEvent,
    attempt_report,
    token_report,
)

GROUNDING = "grounding"
"""Key of ``raw`` and ``additional_kwargs``."""

RunStep = tuple[list[BaseEvent], ChatResponse | None]


@dataclass(slots=True)
class _Streamed:
    """What a stream has returned so far.

    Attributes:
        detail: how much reports hold.
        text: so far.
    """

    detail: ReportDetail
    text: str = ""

    def token(self, token: TokenGrounding) -> ChatResponse:
        """The response of the stream with one more token: the text so far, and what is new of all else."""
        self.text += token.text
        report = {} if self.detail == "summary" else {GROUNDING: {"tokens": [token_report(token)]}}
        return ChatResponse(
            message=ChatMessage(self.text, role=MessageRole.ASSISTANT),
            delta=token.text,
            raw=report,
            logprobs=_logprobs([token]),
            additional_kwargs=report,
        )


def responses(
    lvlm: LVLM,
    run_events: Iterable[RunEvent],
    request: Request,
    detail: ReportDetail,
    *,
    streams: bool,
    attempt: int = 0,
) -> Iterator[RunStep]:
    """The responses of a stream, the last one complete, each with the events to send before it.

    Args:
        lvlm: the model that answers.
        run_events: from `saliency_guard.adapters.run_request`.
        request: the options of the call.
        detail: how much reports hold.
        streams: whether there is a response for every token; otherwise the complete one is the only one.
        attempt: number of the guard's attempt that the call is for; calls with a policy number their own.
    """
    try:
        for events, response in _responses(lvlm, run_events, request, detail, streams=streams, attempt=attempt):
            if events or response is not None:
                yield events, response
    except LowGroundingError as error:
        yield [raised_event(error, detail)], None
        raise


def _responses(
    lvlm: LVLM,
    run_events: Iterable[RunEvent],
    request: Request,
    detail: ReportDetail,
    *,
    streams: bool,
    attempt: int,
) -> Iterator[RunStep]:
    streamed = _Streamed(detail)
    pending_retry: list[BaseEvent] = []
    attempt_count = 0
    for event in run_events:
        if isinstance(event, TokenGrounding):
            yield list(_rejections(event, attempt)), streamed.token(event) if streams and request.live else None
        elif isinstance(event, Attempt):
            # A refused attempt is only known to be retried when the next attempt arrives.
            yield pending_retry, None
            pending_retry = [retry_event(attempt_count, event, detail)] if not event.accepted else []
            attempt_count += 1
        else:
            yield from _held_back(event, streamed, streams=streams and not (request.tools or request.forced))
            number = attempt if event.outcome is None else event.outcome.chosen
            score = GroundingScoreEvent(report=event.report(detail), attempt=number)
            yield [score], _complete(lvlm, event, request, streamed)


def _held_back(end: Finished, streamed: _Streamed, *, streams: bool) -> Iterator[RunStep]:
    """The tokens of the answer that a policy chose, which were held back until its decision."""
    chosen = end.answer is not None and end.outcome is not None and end.answer.text == end.text
    number = end.outcome.chosen if end.outcome is not None else None
    for token in end.answer.tokens if chosen and end.answer is not None else ():
        yield list(_rejections(token, number or 0)), streamed.token(token) if streams else None


def _complete(lvlm: LVLM, end: Finished, request: Request, streamed: _Streamed) -> ChatResponse:
    """The last response of a stream, with everything."""
    answer, report, usage = end.answer, end.report(streamed.detail), end.usage.model_dump()
    raw: dict[str, Any] = {
        GROUNDING: report,
        "model": lvlm.model_id,
        "finish_reason": answer.finish_reason if answer is not None else "stop",
        "usage": usage,
    }
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=end.text)])
    shown = answer if answer is not None and answer.text == end.text else None  # A repaired answer's tokens are not.
    if shown is not None and (request.tools or request.forced):
        blocks, malformed = answer_blocks(lvlm, shown, was_forced=bool(request.forced))
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)
        raw["invalid_tool_calls"] = malformed
    return ChatResponse(
        message=message,
        delta="" if streamed.text else message.content or "",
        raw=raw,
        logprobs=_logprobs(shown.tokens) if shown is not None else None,
        additional_kwargs={GROUNDING: report, **usage},
    )


def retry_event(number: int, attempt: Attempt, detail: ReportDetail) -> GroundingRetryEvent:
    """The event for a refused answer that is retried."""
    report = attempt_report(number, attempt, detail)
    return GroundingRetryEvent(**{name: value for name, value in report.items() if name != "change"})


def send_retry(number: int, policy: GuardPolicy, result: GroundedAnswer | Attempt, detail: ReportDetail) -> None:
    """Send the retry event after a refused answer; with ``keep="best"`` accepted answers are retried without it."""
    attempt = result if isinstance(result, Attempt) else policy.judge(result)
    if not attempt.accepted:
        dispatcher.event(retry_event(number, attempt, detail))


def _rejections(token: TokenGrounding, attempt: int) -> Iterator[BaseEvent]:
    for candidate in token.rejected:
        yield GroundingRejectionEvent(
            **candidate.model_dump(),
            threshold=token.threshold,
            position=token.position,
            taken=token.text,
            attempt=attempt,
        )


def _logprobs(tokens: Sequence[TokenGrounding]) -> list[list[LogProb]]:
    """For every position, the accepted token and then those that SGRS rejected."""
    return [
        [
            _logprob(token.text, token.logprob),
            *(_logprob(candidate.text, candidate.logprob) for candidate in token.rejected),
        ]
        for token in tokens
    ]


def _logprob(text: str, logprob: float) -> LogProb:
    return LogProb(token=text, logprob=logprob, bytes=list(text.encode()))


def completion(response: ChatResponse) -> CompletionResponse:
    """A chat response as a completion response, with all its fields."""
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )
