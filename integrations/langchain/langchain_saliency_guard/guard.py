"""GroundingGuard: a chain step that checks the answers of any chat model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel, RunnablePassthrough

from langchain_saliency_guard._events import REPORT, Emitter
from langchain_saliency_guard._messages import has_picture
from langchain_saliency_guard._report import GROUNDING
from langchain_saliency_guard._scoring import ChatScorer, as_answer, says_something, with_report
from langchain_saliency_guard._tools import as_chunks
from saliency_guard import ConfigError, GroundedAnswer, GuardPolicy, MessageError
from saliency_guard.adapters import EMBEDDED, PreparedPrompt, ScorerModel, answer_report, shown

GuardInput = dict[str, Any]


class GroundingGuard(Runnable[GuardInput, AIMessage]):
    """Scores an answer with a local model and passes it, flags it or raises `LowGroundingError`.

    Its input is ``{"messages": ..., "answer": ...}``: the chat, and a message or text from any model. Its output is the
    answer with ``response_metadata["grounding"]``. Tool calls, empty messages and answers to chats without a
    picture pass unscored, with no such entry. Nothing is retried here: use ``with_retry`` on the whole chain, or the
    policy of a `SaliencyGuardedLVLM`.

    Streams are held back until the answer is checked; then its text is streamed token by token.

    Args:
        policy: decides. ``on_low="raise"`` raises, so that ``with_fallbacks`` and ``with_retry`` see it; ``"fallback"``
            returns the policy's ``fallback``; otherwise a badly grounded answer passes, flagged.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model.
    """

    def __init__(self, policy: GuardPolicy, *, scorer: ScorerModel = EMBEDDED) -> None:
        self.policy = policy
        self._scorer = ChatScorer(scorer)

    def around(self, model: Runnable[LanguageModelInput, BaseMessage]) -> Runnable[LanguageModelInput, AIMessage]:
        """A chain of a chat model and this guard: from messages to a checked message."""
        chat_and_answer: Runnable[Any, Any] = RunnableParallel(messages=RunnablePassthrough(), answer=model)
        return chat_and_answer | self

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
        return self._call_with_config(self._checked, input, config)

    async def ainvoke(
        self,
        input: GuardInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> AIMessage:
        """As `invoke`, without blocking the event loop; cancelling the task stops the scoring."""

        async def checked(guard_input: GuardInput, run_manager: AsyncCallbackManagerForChainRun) -> AIMessage:
            message = await self._amessage(guard_input)
            report = message.response_metadata.get(GROUNDING)
            if report is not None:
                await Emitter.of_run(run_manager).send(REPORT, report)
            return message

        return await self._acall_with_config(checked, input, config)

    def stream(
        self,
        input: GuardInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Iterator[AIMessage]:
        """The checked answer in chunks; arguments and errors as for `invoke`."""
        yield from _pieces(self.invoke(input, config))

    async def astream(
        self,
        input: GuardInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> AsyncIterator[AIMessage]:
        """As `stream`."""
        for piece in _pieces(await self.ainvoke(input, config)):
            yield piece

    def _checked(self, guard_input: GuardInput, run_manager: CallbackManagerForChainRun) -> AIMessage:
        message = self._message(guard_input)
        report = message.response_metadata.get(GROUNDING)
        if report is not None:
            Emitter.of_run(run_manager)(REPORT, report)
        return message

    def _message(self, guard_input: GuardInput) -> AIMessage:
        chat, answer = _parsed(guard_input)
        if not says_something(answer) or not has_picture(chat):
            return answer
        messages, prompt = self._prepared(chat)
        return self._decided(messages, answer, self._scorer.score(prompt, answer.text, self.policy))

    async def _amessage(self, guard_input: GuardInput) -> AIMessage:
        chat, answer = _parsed(guard_input)
        if not says_something(answer) or not has_picture(chat):
            return answer
        messages, prompt = await asyncio.to_thread(self._prepared, chat)
        scored = await self._scorer.ascore(prompt, answer.text, self.policy)
        return await asyncio.to_thread(self._decided, messages, answer, scored)

    def _prepared(self, chat: list[BaseMessage]) -> tuple[list[dict[str, Any]], PreparedPrompt]:
        messages = self._scorer.core_messages(chat)
        return messages, self._scorer.prepare(messages)

    def _decided(self, messages: list[dict[str, Any]], answer: AIMessage, scored: GroundedAnswer) -> AIMessage:
        outcome = self.policy.check(scored, messages=messages)
        return with_report(answer, answer_report(outcome.answer, outcome), outcome.text)


def _parsed(guard_input: Any) -> tuple[list[BaseMessage], AIMessage]:
    if not isinstance(guard_input, dict) or not {"messages", "answer"} <= set(guard_input):
        msg = 'a GroundingGuard takes {"messages": the chat, "answer": a message or a text}'
        raise ConfigError(msg)
    chat, answer = guard_input["messages"], guard_input["answer"]
    if isinstance(chat, PromptValue):
        messages = chat.to_messages()
    else:
        messages = _messages([chat] if isinstance(chat, (str, BaseMessage)) else chat)
    return messages, as_answer(answer)


def _messages(chat: Any) -> list[BaseMessage]:
    try:
        return convert_to_messages(chat)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        msg = f"{shown(chat)} is not a list of messages: {error}"
        raise MessageError(msg) from error


def _pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """The message in chunks that add up to it."""
    tokens = message.response_metadata.get(GROUNDING, {}).get("tokens", [])
    texts = [token["text"] for token in tokens]
    contents: list[Any] = texts if "".join(texts) == message.content else [message.content]
    for content in contents:
        yield AIMessageChunk(content=content, id=message.id)
    yield AIMessageChunk(
        content="",
        id=message.id,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        invalid_tool_calls=message.invalid_tool_calls,
        tool_call_chunks=as_chunks(message.tool_calls),
        chunk_position="last",
    )
