"""Answers of one model, each a call that joins the running batch of all calls."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from typing import cast

from saliency_guard.answer import GroundedAnswer, Step
from saliency_guard.answer_builder import AnswerBuilder
from saliency_guard.batching.calls import ScoringCall, WritingCall
from saliency_guard.batching.rounds import answer_together, read
from saliency_guard.batching.scheduler import BatchingStatistics, Scheduler
from saliency_guard.chat.detokenize import AnswerText, EncodedText, encode_answer
from saliency_guard.chat.template import Messages, PreparedPrompt, PromptReader
from saliency_guard.decoding.options import Deadline, GenerationOptions, ScoringPlan, at_least_one, generation_plan


class BatchedAnswers(ABC):
    """How `LVLM` answers."""

    _scheduler: Scheduler
    _reader: PromptReader

    @property
    @abstractmethod
    def _builder(self) -> AnswerBuilder:
        """Begins and ends the answers."""

    @property
    @abstractmethod
    def end_tokens(self) -> frozenset[int]:
        """Ids after which an answer is over."""

    @property
    @abstractmethod
    def _prepares_beside(self) -> bool:
        """Whether callers prepare their prompts in their own threads while the model works; else that is its work."""

    @abstractmethod
    def prepare(self, messages: Messages | PreparedPrompt) -> PreparedPrompt:
        """Messages, ready to be read."""

    @property
    def batching(self) -> BatchingStatistics:
        """How many calls were answered side by side so far, and how many wait."""
        return self._scheduler.statistics

    def _steps(
        self,
        messages: Messages | PreparedPrompt,
        options: GenerationOptions,
        *,
        live: bool,
        cancel: threading.Event | None = None,
    ) -> Iterator[Step]:
        """The steps of one answer; of a stream the prompt is read before this returns."""
        plan = generation_plan(options)
        call = WritingCall(self._builder, plan, Deadline(plan.options["timeout"]), cancel, live=live)
        self._scheduler.enter(call)
        try:
            call.source = lambda: (self.prepare(messages), None)
            if self._prepares_beside:
                call.prepare()
            if live:
                self._scheduler.run(call, lambda: call.is_read)
        except BaseException:
            self._scheduler.leave(call)
            raise
        return call.steps(self._scheduler)

    def _scored(
        self, messages: Messages | PreparedPrompt, text: AnswerText, plan: ScoringPlan, cancel: threading.Event | None
    ) -> GroundedAnswer:
        """One scored answer."""
        plan.saliency.require_rows()
        call = ScoringCall(self._builder, plan, cancel)
        self._scheduler.enter(call)
        try:
            call.source = lambda: self._to_score(messages, text)
            if self._prepares_beside:
                call.prepare()
            self._scheduler.run(call)
        finally:
            self._scheduler.leave(call)
        return cast("GroundedAnswer", call.answer)

    def _score_parts(
        self, batch: Sequence[tuple[Messages | PreparedPrompt, AnswerText]], plan: ScoringPlan, *, batch_size: int
    ) -> Generator[list[GroundedAnswer], None, None]:
        """`score_batch`, a part at a time; an empty part between reading prompts and scoring answers."""
        size = at_least_one("batch_size", batch_size)
        plan.saliency.require_rows()
        calls = [ScoringCall(self._builder, plan) for _ in batch]
        for call, (messages, text) in zip(calls, batch, strict=True):
            call.take(*self._to_score(messages, text))
        for start in range(0, len(calls), size):
            part = calls[start : start + size]
            read(part)
            yield []
            yield answer_together(part)

    def _to_score(self, messages: Messages | PreparedPrompt, text: AnswerText) -> tuple[PreparedPrompt, EncodedText]:
        answer = encode_answer(self._reader.tokenizer, text, self._reader.controls, self.end_tokens)
        prepared = self.prepare(messages)
        self._reader.require_room(prepared.length, len(answer.ids))
        return prepared, answer
