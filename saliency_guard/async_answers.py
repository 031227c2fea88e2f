"""Answers for event loops: what `LVLM` does, in a worker thread, and stopped when nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing
from typing import Unpack, cast

from saliency_guard.answer import GroundedAnswer, Step
from saliency_guard.batching.answers import BatchedAnswers
from saliency_guard.chat.detokenize import AnswerText
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.decoding.options import GenerationOptions, ScoringOptions, scoring_plan
from saliency_guard.worker import in_thread


class AsyncAnswers(BatchedAnswers):
    """The coroutines of `LVLM`."""

    async def agenerate(
        self, messages: Messages | PreparedPrompt, **options: Unpack[GenerationOptions]
    ) -> GroundedAnswer:
        """`generate`, side by side with other calls; cancelling the task stops it between two rounds of tokens."""
        answer: GroundedAnswer | None = None
        async with aclosing(self._in_thread(messages, options, live=False)) as steps:
            async for step in steps:
                answer = step.answer
        return cast("GroundedAnswer", answer)

    async def astream(
        self, messages: Messages | PreparedPrompt, **options: Unpack[GenerationOptions]
    ) -> AsyncIterator[Step]:
        """`stream`, side by side with other calls.

        Leaving the stream, or cancelling the task, stops it between two rounds of tokens.
        """
        async with aclosing(self._in_thread(messages, options, live=True)) as steps:
            async for step in steps:
                yield step

    def _in_thread(
        self, messages: Messages | PreparedPrompt, options: GenerationOptions, *, live: bool
    ) -> AsyncGenerator[Step, None]:
        """`_steps` for a coroutine; the prompt is prepared and read with the first one."""
        cancel = threading.Event()

        def steps() -> Generator[Step, None, None]:
            yield from self._steps(messages, options, live=live, cancel=cancel)

        return in_thread(steps(), cancel)

    async def ascore(
        self, messages: Messages | PreparedPrompt, text: AnswerText, **options: Unpack[ScoringOptions]
    ) -> GroundedAnswer:
        """`score` for the norm of the row, side by side with other calls; cancelling the task stops it."""
        plan, cancel = scoring_plan(options), threading.Event()

        def steps() -> Generator[GroundedAnswer, None, None]:
            yield self._scored(messages, text, plan, cancel)

        async with aclosing(in_thread(steps(), cancel)) as answers:
            return await anext(answers)

    async def ascore_batch(
        self,
        batch: Sequence[tuple[Messages | PreparedPrompt, AnswerText]],
        *,
        batch_size: int = 8,
        **options: Unpack[ScoringOptions],
    ) -> list[GroundedAnswer]:
        """`score_batch` in a worker thread; cancelling the task stops it between two passes."""
        work = self._score_parts(batch, scoring_plan(options), batch_size=batch_size)
        answers: list[GroundedAnswer] = []
        async with aclosing(in_thread(work, threading.Event())) as parts:
            async for part in parts:
                answers += part
        return answers
