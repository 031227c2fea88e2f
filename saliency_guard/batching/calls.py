"""The calls that a batch is made of: an answer that is being written, and a text that is being scored."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator

from saliency_guard.answer import GroundedAnswer, Step, TokenGrounding
from saliency_guard.answer_builder import AnswerBuilder, FinishedAnswer, WantedScores, unscored_tokens
from saliency_guard.batching.scheduler import Call, Scheduler
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.decoding.batch_decoder import Outcome, Row
from saliency_guard.decoding.draft_length import UNGUARDED_DRAFT
from saliency_guard.decoding.options import Deadline, GenerationPlan, ScoringPlan
from saliency_guard.decoding.sampling import LogitsProcessor
from saliency_guard.models.forward import has_own_modes
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Session

Source = Callable[[], tuple[PreparedPrompt, EncodedText | None]]
"""Prepares the prompt of a call, and the text to score if there is one; holds no reference to the call."""


class AnswerCall(Call):
    """A call whose result is one answer: its prompt is prepared, read into a session, and answered.

    Args:
        builder: ends the answer.
        wanted: its scores, signals and verification.
        locore: the gains it is written or scored under.
        deadline: as for `Call`.
        cancel: as for `Call`.
        alone: as for `Call`.
    """

    def __init__(
        self,
        builder: AnswerBuilder,
        wanted: WantedScores,
        locore: LocoREConfig | None,
        deadline: Deadline,
        cancel: threading.Event | None,
        *,
        alone: bool = False,
    ) -> None:
        super().__init__(deadline, cancel, alone=alone or has_own_modes())
        self.builder = builder
        self.wanted = wanted
        self.locore = locore
        self.source: Source | None = None
        self.prompt: PreparedPrompt | None = None
        self.text: EncodedText | None = None
        self.session: Session | None = None
        self.answer: GroundedAnswer | None = None

    @property
    def ready(self) -> bool:
        """Whether the answer is there."""
        return self.answer is not None

    @property
    def done(self) -> bool:
        """Whether the answer is there."""
        return self.answer is not None

    @property
    def may_run_ahead(self) -> bool:
        """No: nobody leaves such a call and comes back."""
        return False

    @property
    def is_read(self) -> bool:
        """Whether the prompt was read."""
        return self.session is not None

    def prepare(self) -> None:
        """Set the prompt, and the text to score; errors as of `take`."""
        if self.source is not None:
            source, self.source = self.source, None
            self.take(*source())

    def take(self, prompt: PreparedPrompt, text: EncodedText | None = None) -> None:
        """Set the prompt, and the text to score if there is one."""
        self.prompt, self.text = prompt, text

    @property
    def reading(self) -> tuple[LocoREConfig | None, bool]:
        """Equal for calls whose prompts are read in one go."""
        return self.locore, self.builder.traces(self.wanted.saliency, self.wanted.signals)

    @property
    def ending(self) -> tuple[object, ...]:
        """Equal for calls whose answers are ended in one go."""
        builder = self.builder
        same = (id(builder.reader), id(builder.calibrator), builder.fits, builder.model_id)
        return self.wanted, same

    def begin(self, session: Session) -> None:
        """Go on with the prompt, which was read."""
        self.session = session
        self.changed.set()

    @abstractmethod
    def finished(self) -> FinishedAnswer:
        """The tokens of the answer."""

    def end(self, answer: GroundedAnswer) -> None:
        """Take the answer."""
        self.answer = answer
        self.changed.set()


class WritingCall(AnswerCall):
    """An answer that is being written.

    Args:
        builder: as for `AnswerCall`.
        plan: how it is to be written.
        deadline: as for `Call`.
        cancel: as for `Call`.
        live: whether tokens are given out as they are written.
    """

    def __init__(
        self,
        builder: AnswerBuilder,
        plan: GenerationPlan,
        deadline: Deadline,
        cancel: threading.Event | None = None,
        *,
        live: bool,
    ) -> None:
        options = plan.options
        guarded = options["sgrs"] is not None
        scored = guarded or (live and options["saliency"] is not None)
        structured = options["json_schema"] is not None
        wanted = WantedScores(
            options["saliency"], plan.signals, options["verify"], scored=scored, guarded=guarded, structured=structured
        )
        # A caller's own logits processors may count their calls, hold the thread up, or call the model themselves.
        super().__init__(builder, wanted, options["locore"], deadline, cancel, alone=not plan.drafts_ahead)
        self.plan = plan
        self.live = live
        self.tokens: deque[TokenGrounding] = deque()
        self._writer = builder.writer(plan)
        self._room = 0
        self._processor: LogitsProcessor | None = None
        self._row: Row | None = None
        self._written = False

    @property
    def ready(self) -> bool:
        """Whether there are tokens to give out, or the answer."""
        return bool(self.tokens) or self.answer is not None

    @property
    def may_run_ahead(self) -> bool:
        """A stream may be one round ahead of who reads from it."""
        return self.live and self.is_read and len(self.tokens) <= UNGUARDED_DRAFT

    @property
    def written(self) -> bool:
        """Whether its end has come."""
        return self._written

    @property
    def row(self) -> Row:
        """The row of a batch that it is, once its prompt was read."""
        assert self._row is not None  # noqa: S101 - only called then
        return self._row

    def take(self, prompt: PreparedPrompt, text: EncodedText | None = None) -> None:
        """Take the prompt.

        Raises:
            ContextLengthError: if it leaves no room for an answer.
            ConfigError: if the JSON schema cannot be used.
            MissingExtraError: if the JSON schema needs the extra ``structured``.
        """
        builder, plan = self.builder, self.plan
        self._room = builder.reader.room(prompt.length, plan.options["max_new_tokens"])
        self._processor = plan.processor(plan.schema_mask(builder.tokenizer, builder.eos, prompt.length))
        super().take(prompt, text)

    def begin(self, session: Session) -> None:
        """Begin to write."""
        decoder = self.builder.decoder(self.plan, session, self._processor, live=self.live)
        decoder.begin()
        self._row = Row(decoder, self._room)
        super().begin(session)

    def push(self, outcome: Outcome) -> None:
        """Take the result of a round."""
        if isinstance(outcome, Exception):
            self.fail(outcome)
            return
        ready: list[TokenGrounding] = []
        for token in outcome:
            ready += self._writer.push(token)
            if self._writer.complete:
                break
        if self._writer.complete or self.row.left <= 0:
            ready += self._writer.finish()
            self._written = True
        if self.live and ready:
            self.tokens += ready
            self.changed.set()

    def finished(self) -> FinishedAnswer:
        """What was written."""
        assert self.session is not None  # noqa: S101 - what was written has a prompt
        conversation = self.prompt.conversation if self.prompt is not None else None
        return FinishedAnswer(self.session, self._writer.done, self._writer.reason, conversation)

    def steps(self, scheduler: Scheduler) -> Iterator[Step]:
        """The tokens of a stream as they come, and the answer at last; only the answer where it is no stream."""
        try:
            while True:
                scheduler.run(self)
                while self.tokens:
                    self.check()
                    yield Step(token=self.tokens.popleft())
                if self.answer is not None:
                    yield Step(answer=self.answer)
                    return
        finally:
            scheduler.leave(self)


class ScoringCall(AnswerCall):
    """A text that is being scored.

    Args:
        builder: as for `AnswerCall`.
        plan: how it is to be scored.
        cancel: as for `Call`.
    """

    def __init__(self, builder: AnswerBuilder, plan: ScoringPlan, cancel: threading.Event | None = None) -> None:
        wanted = WantedScores(plan.saliency, plan.signals, plan.verify)
        super().__init__(builder, wanted, plan.locore, Deadline(None), cancel)

    @property
    def written(self) -> bool:
        """Its tokens are known from the beginning."""
        return self.is_read

    def finished(self) -> FinishedAnswer:
        """The tokens of the text."""
        assert self.session is not None and self.text is not None  # noqa: S101, PT018 - the prompt was read
        conversation = self.prompt.conversation if self.prompt is not None else None
        return FinishedAnswer(self.session, unscored_tokens(self.text), "stop", conversation)
