"""The one guarded core behind invoke, stream and batch: an answer as a sequence of what happens."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from langchain_saliency_guard._events import REJECTION, REPORT, RETRY, TOKEN
from langchain_saliency_guard._report import answer_report, token_report
from langchain_saliency_guard._requests import Request
from saliency_guard import (
    LVLM,
    Attempt,
    CancelledError,
    DeadlineError,
    GroundedAnswer,
    GuardOutcome,
    TokenGrounding,
)

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer.

    Attributes:
        text: to show.
        answer: it is; None for a fallback's plain text.
        outcome: what the policy decided; None without one.
        considered: every answer that was written for it.
    """

    text: str
    answer: GroundedAnswer | None
    outcome: GuardOutcome | None
    considered: tuple[GroundedAnswer, ...]

    @property
    def report(self) -> dict[str, Any]:
        """What the message says of its grounding."""
        return answer_report(self.answer, self.outcome)


Happening = TokenGrounding | Attempt | Finished


def happenings(
    lvlm: LVLM, messages: list[dict[str, Any]], request: Request, cancel: threading.Event
) -> Generator[Happening, None, None]:
    """Tokens as they are written, or under a policy attempts as they are made; the end last.

    Args:
        lvlm: answers.
        messages: as the core takes them.
        request: how.
        cancel: stops the work between two tokens once it is set.

    Raises:
        DeadlineError: if the request's timeout passes.
        CancelledError: if ``cancel`` is set.
        LowGroundingError: by the policy.
    """
    able = lvlm.with_tools(request.tools) if request.tools else lvlm
    with _limited(request.timeout, cancel):
        if request.policy is None:
            for step in able.stream(messages, **request.generation):
                if cancel.is_set():
                    msg = "the call was cancelled"
                    raise CancelledError(msg)
                if step.answer is not None:
                    yield finished(step.answer)
                elif step.token is not None:
                    yield step.token
            return
        for made in request.policy.steps(able, messages, cancel=cancel, **request.generation):
            if isinstance(made, Attempt):
                yield made
            else:
                yield Finished(made.text, made.answer, made, tuple(one.answer for one in made.attempts))


def finished(answer: GroundedAnswer) -> Finished:
    """The end of an answer that no policy looked at."""
    return Finished(answer.text, answer, None, (answer,))


@contextmanager
def _limited(timeout: float | None, cancel: threading.Event) -> Iterator[None]:
    """Set ``cancel`` when the time is over, and say so."""
    if timeout is None:
        yield
        return
    passed = threading.Event()

    def over() -> None:
        passed.set()
        cancel.set()

    timer = threading.Timer(timeout, over)
    timer.daemon = True
    timer.start()
    try:
        yield
    except CancelledError as error:
        if not passed.is_set():
            raise
        msg = f"the answer was not finished within timeout={timeout:g} s"
        raise DeadlineError(msg) from error
    finally:
        timer.cancel()


class Events:
    """The events of one answer, from what happens."""

    def __init__(self) -> None:
        self._refused: list[Event] = []
        self._told = 0

    def of(self, happening: Happening) -> list[Event]:
        """What to tell of it; a retry is told once it is known that there is one."""
        if isinstance(happening, TokenGrounding):
            self._told += 1
            return _of_token(happening)
        if isinstance(happening, Attempt):
            told, self._refused = self._refused, []
            number = self._told
            self._told += 1
            if happening.refused is not None:
                data = {
                    "attempt": number,
                    "score": happening.score,
                    "refused": happening.refused,
                    "text": happening.answer.text,
                }
                self._refused = [(RETRY, data)]
            return told
        tokens = happening.answer.tokens if happening.outcome is not None and happening.answer is not None else ()
        events = [event for token in tokens for event in _of_token(token)]
        return [*events, (REPORT, happening.report)]


def _of_token(token: TokenGrounding) -> list[Event]:
    rejections = [
        (
            REJECTION,
            {
                **one.model_dump(mode="json"),
                "position": token.position,
                "threshold": token.threshold,
                "taken": token.text,
            },
        )
        for one in token.rejected
    ]
    return [*rejections, (TOKEN, token_report(token))]
