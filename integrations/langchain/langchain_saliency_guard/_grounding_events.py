"""The custom events of an answer: the same from the model, the guards and the middleware.

Attempts have numbers from 0, which tell them apart within a run. Of a refused attempt there is its verdict, and its
text with ``report="full"`` only.
"""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.outputs import ChatResult

from langchain_saliency_guard._events import PROGRESS, REJECTION, REPORT, RETRY, TOKEN, Event
from langchain_saliency_guard._report import GROUNDING
from langchain_saliency_guard._verdicts import record_cached
from saliency_guard import Attempt, GroundedAnswer, GuardOutcome, GuardPolicy, LowGroundingError, TokenGrounding
from saliency_guard.adapters import ReportDetail, RunEvent, attempt_report, raised_report, token_report


class GroundingEvents:
    """Makes the custom events of an answer from the events of its run.

    Args:
        detail: how much reports hold.
    """

    def __init__(self, detail: ReportDetail) -> None:
        self._detail = detail
        self._pending_retry: list[Event] = []
        self._attempt_count = 0

    def of(self, event: RunEvent) -> list[Event]:
        """The custom events to send for an event of the run; a retry event is sent when the next attempt exists."""
        if isinstance(event, TokenGrounding):
            return _token_events(event, 0)
        if isinstance(event, Attempt):
            retry, self._pending_retry = self._pending_retry, []
            number = self._attempt_count
            self._attempt_count += 1
            if not event.accepted:
                again = progress(self._attempt_count, "writing")
                self._pending_retry = [retry_event(number, event, self._detail), again]
            return retry
        report = event.report(self._detail)
        if event.outcome is None:
            return [report_event(report, 0)]
        return outcome_events(event.answer, event.outcome, report, self._attempt_count)


def progress(attempt: int, state: Literal["writing", "judging"]) -> Event:
    """The event for what begins now; it says nothing of the answer."""
    return PROGRESS, {"attempt": attempt, "state": state}


def retry_event(number: int, attempt: Attempt, detail: ReportDetail) -> Event:
    """The event for an attempt that is followed by another one."""
    return RETRY, attempt_report(number, attempt, detail)


def report_event(report: dict[str, Any], attempt: int | None) -> Event:
    """The event for an answer that is finished.

    Args:
        report: of its grounding.
        attempt: number of the attempt that is given out; None where none is, or where a cache gave the answer.
    """
    return REPORT, {**report, "attempt": attempt}


def raised_event(error: LowGroundingError, detail: ReportDetail) -> Event:
    """The event for an answer that a policy did not give out."""
    return report_event(raised_report(error, detail=detail), None)


def outcome_events(
    answer: GroundedAnswer | None, outcome: GuardOutcome, report: dict[str, Any], attempt: int = 0
) -> list[Event]:
    """The events of an answer that was held back until a policy gave it out: its tokens, and its report.

    Args:
        answer: that is given out; None for a plain text.
        outcome: what was decided.
        report: of its grounding.
        attempt: number of the attempt that there was nothing to judge of, where that was decided.
    """
    number = outcome.chosen if outcome.decision != "not_applicable" else attempt
    tokens = answer.tokens if answer is not None and number is not None and answer.text == outcome.text else ()
    return [*(event for token in tokens for event in _token_events(token, number or 0)), report_event(report, number)]


def _token_events(token: TokenGrounding, attempt: int) -> list[Event]:
    rejections = [
        (
            REJECTION,
            {
                **candidate.model_dump(mode="json"),
                "position": token.position,
                "threshold": token.threshold,
                "taken": token.text,
                "attempt": attempt,
            },
        )
        for candidate in token.rejected
    ]
    return [*rejections, (TOKEN, {**token_report(token), "attempt": attempt})]


def cached_events(result: ChatResult, policy: GuardPolicy | None) -> list[Event]:
    """The events of answers that came from a cache, which give the verdict of their first time.

    Args:
        result: what the cache gave.
        policy: that decided on it; None is none.
    """
    events: list[Event] = []
    for generation in result.generations:
        report = generation.message.response_metadata.get(GROUNDING)
        if report is not None:
            record_cached(generation.message.text, report, policy)
            events.append(report_event(report, None))
    return events
