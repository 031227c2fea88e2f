"""Answers for event loops: what `LVLM` does, in a worker thread, and stopped when nobody waits for it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing
from typing import Unpack, cast

from saliency_guard.answer import GroundedAnswer, Step
from saliency_guard.chat.detokenize import AnswerText
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.decoding.options import GenerationOptions, ScoringOptions, ScoringPlan, scoring_plan
from saliency_guard.worker import in_thread


class AsyncAnswers(ABC):
    """The coroutines of `LVLM`."""

    @abstractmethod
    def _steps(self, messages: Messages | PreparedPrompt, options: GenerationOptions, *, live: bool) -> Iterator[Step]:
        """The steps of one answer; the prompt is read before this returns."""

    @abstractmethod
    def _score_steps(
        self, batch: Sequence[tuple[Messages | PreparedPrompt, AnswerText]], plan: ScoringPlan, *, batch_size: int
    ) -> Generator[list[GroundedAnswer], None, None]:
        """Scored answers, some at a time."""

    def _started(
        self, messages: Messages | PreparedPrompt, options: GenerationOptions, *, live: bool
    ) -> Generator[Step, None, None]:
        """`_steps`, the prompt being read with the first one."""
        yield from self._steps(messages, options, live=live)

    async def agenerate(
        self, messages: Messages | PreparedPrompt, **options: Unpack[GenerationOptions]
    ) -> GroundedAnswer:
        """`generate` in a worker thread; cancelling the task stops it between two tokens."""
        answer: GroundedAnswer | None = None
        async with aclosing(in_thread(self._started(messages, options, live=False), threading.Event())) as steps:
            async for step in steps:
                answer = step.answer
        return cast("GroundedAnswer", answer)

    async def astream(
        self, messages: Messages | PreparedPrompt, **options: Unpack[GenerationOptions]
    ) -> AsyncIterator[Step]:
        """`stream` in a worker thread; leaving the stream, or cancelling the task, stops it between two tokens."""
        async with aclosing(in_thread(self._started(messages, options, live=True), threading.Event())) as steps:
            async for step in steps:
                yield step

    async def ascore(
        self, messages: Messages | PreparedPrompt, text: AnswerText, **options: Unpack[ScoringOptions]
    ) -> GroundedAnswer:
        """`score` in a worker thread, for the norm of the row; cancelling the task stops it between two passes."""
        return (await self.ascore_batch([(messages, text)], **options))[0]

    async def ascore_batch(
        self,
        batch: Sequence[tuple[Messages | PreparedPrompt, AnswerText]],
        *,
        batch_size: int = 8,
        **options: Unpack[ScoringOptions],
    ) -> list[GroundedAnswer]:
        """`score_batch` in a worker thread; cancelling the task stops it between two passes."""
        work = self._score_steps(batch, scoring_plan(options), batch_size=batch_size)
        answers: list[GroundedAnswer] = []
        async with aclosing(in_thread(work, threading.Event())) as parts:
            async for part in parts:
                answers += part
        return answers
