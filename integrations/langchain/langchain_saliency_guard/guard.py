"""GroundingGuard: a chain step that checks the answers of any chat model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_saliency_guard._drafts import pieces
from langchain_saliency_guard._events import Emitter, Event
from langchain_saliency_guard._grounding_events import outcome_events, progress, raised_event
from langchain_saliency_guard._judged import ShouldScore, judged_text, may_have_picture, nothing_to_score
from langchain_saliency_guard._scoring import ChatScorer, Checked, as_answer, chat_of, with_report
from langchain_saliency_guard._verdicts import record
from langchain_saliency_guard.guarded_model import GuardedModel
from saliency_guard import ConfigError, GroundedAnswer, GuardOutcome, GuardPolicy, LowGroundingError, SaliencyGuardError
from saliency_guard.adapters import (
    EMBEDDED,
    NO_PICTURE,
    JudgedText,
    OnError,
    PreparedPrompt,
    ReportDetail,
    ScorerModel,
    answer_report,
    empty_attempt,
    not_applicable,
    scorer_trouble,
    unscored_attempt,
)

GuardInput = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _ToScore:
    """An answer to score, and its prompt."""

    text: JudgedText
    messages: list[dict[str, Any]]
    prompt: PreparedPrompt


class GroundingGuard(Runnable[GuardInput, AIMessage]):
    """Scores an answer with a local model and passes it, flags it or raises `LowGroundingError`.

    Its input is ``{"messages": ..., "answer": ...}``: the chat, and a message or text from any model. Its output is the
    answer with ``response_metadata["grounding"]``. Nothing passes unseen: an empty answer is refused; what cannot be
    judged has the decision ``"unscored"``, and the policy's ``unscored`` decides on it; turns about no picture and tool
    calls without a text have ``"not_applicable"``. Nothing is retried here: use ``with_retry`` on the whole chain, or
    the policy of a `SaliencyGuardedLVLM`.

    Streams are held back until the answer is checked; then its text is streamed token by token.

    Args:
        policy: decides. ``on_low="raise"`` raises, so that ``with_fallbacks`` and ``with_retry`` see it; ``"fallback"``
            returns the policy's ``fallback``; otherwise a badly grounded answer passes, flagged.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model.
        should_score: called with the chat and the answer: whether to score it. None scores turns that may be about a
            picture (see `saliency_guard.adapters.Turn`).
        on_error: what the scorer's own trouble does (a PDF, a picture it may not fetch): ``"unscored"`` leaves the
            decision to the policy's ``unscored``, ``"raise"`` raises it.
        report: how much the report holds; refused texts with ``"full"`` only.
    """

    def __init__(
        self,
        policy: GuardPolicy,
        *,
        scorer: ScorerModel = EMBEDDED,
        should_score: ShouldScore | None = None,
        on_error: OnError = "unscored",
        report: ReportDetail = "summary",
    ) -> None:
        self.policy = policy
        self.should_score = should_score
        self.on_error = on_error
        self.report = report
        self._scorer = ChatScorer(scorer)

    def around(self, model: Runnable[LanguageModelInput, BaseMessage]) -> GuardedModel:
        """A chat model with this guard: from messages to a checked message.

        The model's own answer is in no stream, callback or trace until it is checked; what the guard gives out is, as
        the model's answer.
        """
        return GuardedModel(self, model)

    def invoke(
        self,
        input: GuardInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> AIMessage:
        """Check an answer.

        Args:
            input: ``messages`` and ``answer``.
            config: configuration of the run.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if the answer is not grounded well enough.
            ConfigError: if the input has another form, or the policy cannot be used for single answers.
        """
        return self._checked(input, config).message

    async def ainvoke(
        self,
        input: GuardInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> AIMessage:
        """As `invoke`, without blocking the event loop; cancelling the task stops the scoring."""
        return (await self._achecked(input, config)).message

    def stream(
        self,
        input: GuardInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Iterator[AIMessage]:
        """The checked answer in chunks; arguments and errors as for `invoke`."""
        checked = self._checked(input, config)
        yield from pieces(checked.message, checked.outcome.answer)

    async def astream(
        self,
        input: GuardInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> AsyncIterator[AIMessage]:
        """As `stream`."""
        checked = await self._achecked(input, config)
        for piece in pieces(checked.message, checked.outcome.answer):
            yield piece

    def _checked(self, guard_input: GuardInput, config: RunnableConfig | None) -> Checked:
        results: list[Checked] = []

        def check(given: GuardInput, run_manager: CallbackManagerForChainRun) -> AIMessage:
            results.append(self.check(*_parsed(given), Emitter.of_run(run_manager)))
            return results[0].message

        self._call_with_config(check, guard_input, config)
        return results[0]

    async def _achecked(self, guard_input: GuardInput, config: RunnableConfig | None) -> Checked:
        results: list[Checked] = []

        async def check(given: GuardInput, run_manager: AsyncCallbackManagerForChainRun) -> AIMessage:
            results.append(await self.acheck(*_parsed(given), Emitter.of_run(run_manager)))
            return results[0].message

        await self._acall_with_config(check, guard_input, config)
        return results[0]

    def check(self, chat: list[BaseMessage], answer: AIMessage, emit: Emitter) -> Checked:
        """Check an answer to a chat, and send its events."""
        try:
            undecided = self._undecided(chat, answer)
            if isinstance(undecided, _ToScore):
                emit(*progress(0, "judging"))
                try:
                    scored: GroundedAnswer | str = self._scorer.score(undecided.prompt, undecided.text, self.policy)
                except SaliencyGuardError as error:
                    scored = scorer_trouble(error, self.on_error)
                undecided = self._decided(undecided, scored)
        except LowGroundingError as error:
            emit(*raised_event(error, self.report))
            raise
        checked, events = self._with_events(chat, answer, undecided)
        for event in events:
            emit(*event)
        return checked

    async def acheck(self, chat: list[BaseMessage], answer: AIMessage, emit: Emitter) -> Checked:
        """As `check`, without blocking the event loop."""
        try:
            undecided = await asyncio.to_thread(self._undecided, chat, answer)
            if isinstance(undecided, _ToScore):
                await emit.send(*progress(0, "judging"))
                try:
                    scored: GroundedAnswer | str = await self._scorer.ascore(
                        undecided.prompt, undecided.text, self.policy
                    )
                except SaliencyGuardError as error:
                    scored = scorer_trouble(error, self.on_error)
                undecided = await asyncio.to_thread(self._decided, undecided, scored)
        except LowGroundingError as error:
            await emit.send(*raised_event(error, self.report))
            raise
        checked, events = self._with_events(chat, answer, undecided)
        for event in events:
            await emit.send(*event)
        return checked

    def _undecided(self, chat: list[BaseMessage], answer: AIMessage) -> GuardOutcome | _ToScore:
        """The decision without a score; else the answer to score."""
        text = judged_text(answer)
        reason = nothing_to_score(chat, chat, answer, text, should_score=self.should_score)
        if reason is not None:
            return not_applicable(answer.text, reason, self.policy)
        said = text or JudgedText("")
        if not may_have_picture(chat):
            return self.policy.decide((unscored_attempt(said.text, NO_PICTURE),))
        try:
            messages = self._scorer.core_messages(chat)
            if not said.text:
                return self.policy.decide((empty_attempt(),), messages)
            return _ToScore(said, messages, self._scorer.prepare(messages))
        except LowGroundingError:
            raise
        except SaliencyGuardError as error:
            return self.policy.decide((unscored_attempt(said.text, scorer_trouble(error, self.on_error)),))

    def _decided(self, to_score: _ToScore, scored: GroundedAnswer | str) -> GuardOutcome:
        """The decision on a scored answer; or on one that could not be scored, and why."""
        if isinstance(scored, str):
            return self.policy.decide((unscored_attempt(to_score.text.text, scored),), to_score.messages)
        return self.policy.check(scored, messages=to_score.messages)

    def _with_events(
        self, chat: list[BaseMessage], answer: AIMessage, outcome: GuardOutcome | _ToScore
    ) -> tuple[Checked, list[Event]]:
        assert isinstance(outcome, GuardOutcome)  # noqa: S101 - decided by now
        record(outcome)
        report = answer_report(outcome.answer, outcome, detail=self.report)
        judged = judged_text(answer)
        message = with_report(answer, report, outcome.replacement(judged.text if judged is not None else ""))
        return Checked(chat, message, outcome), outcome_events(outcome.answer, outcome, report)


def _parsed(guard_input: Any) -> tuple[list[BaseMessage], AIMessage]:
    """The chat and the answer in a guard's input.

    Raises:
        ConfigError: if it has another form.
        MessageError: if the chat is no list of messages.
    """
    if not isinstance(guard_input, dict) or not {"messages", "answer"} <= set(guard_input):
        msg = 'a GroundingGuard takes {"messages": the chat, "answer": a message or a text}'
        raise ConfigError(msg)
    return chat_of(guard_input["messages"]), as_answer(guard_input["answer"])
