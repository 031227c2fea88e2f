"""GuardedModel: a chat model whose answers are checked before anybody sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_saliency_guard._drafts import Shown, pieces, quiet, unobserved
from langchain_saliency_guard._events import Emitter
from langchain_saliency_guard._grounding_events import progress
from langchain_saliency_guard._scoring import Checked, as_answer, chat_of

if TYPE_CHECKING:
    from langchain_saliency_guard.guard import GroundingGuard


class GuardedModel(Runnable[LanguageModelInput, AIMessage]):
    """A chat model whose answers a `GroundingGuard` checks before anybody sees them.

    Args:
        guard: checks.
        model: answers.
    """

    def __init__(self, guard: GroundingGuard, model: Runnable[LanguageModelInput, BaseMessage]) -> None:
        self.guard = guard
        self.model = model

    def bind_tools(self, tools: Any, **kwargs: Any) -> GuardedModel:
        """The model with tools, and the same guard; arguments as for the model's own ``bind_tools``."""
        model: Any = self.model
        return GuardedModel(self.guard, model.bind_tools(tools, **kwargs))

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer, and check the answer.

        Args:
            input: as for the model.
            config: configuration of the run.
            **kwargs: for the model.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if the answer is not grounded well enough.
        """
        return self._answered(input, config, kwargs).message

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As `invoke`, without blocking the event loop."""
        return (await self._aanswered(input, config, kwargs)).message

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessage]:
        """The checked answer in chunks; arguments and errors as for `invoke`."""
        checked = self._answered(input, config, kwargs)
        yield from pieces(checked.message, checked.outcome.answer)

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessage]:
        """As `stream`."""
        checked = await self._aanswered(input, config, kwargs)
        for piece in pieces(checked.message, checked.outcome.answer):
            yield piece

    def _answered(self, chat: LanguageModelInput, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Checked:
        results: list[Checked] = []

        def answer(given: LanguageModelInput, run_manager: CallbackManagerForChainRun) -> AIMessage:
            emit = Emitter.of_run(run_manager)
            emit(*progress(0, "writing"))
            with unobserved():
                draft = as_answer(quiet(self.model).invoke(given, **kwargs))
            checked = self.guard.check(chat_of(given), draft, emit)
            results.append(_shown(checked, self._to_show(checked).show()))
            return results[0].message

        self._call_with_config(answer, chat, config)
        return results[0]

    async def _aanswered(
        self, chat: LanguageModelInput, config: RunnableConfig | None, kwargs: dict[str, Any]
    ) -> Checked:
        results: list[Checked] = []

        async def answer(given: LanguageModelInput, run_manager: AsyncCallbackManagerForChainRun) -> AIMessage:
            emit = Emitter.of_run(run_manager)
            await emit.send(*progress(0, "writing"))
            with unobserved():
                draft = as_answer(await quiet(self.model).ainvoke(given, **kwargs))
            checked = await self.guard.acheck(chat_of(given), draft, emit)
            results.append(_shown(checked, await self._to_show(checked).ashow()))
            return results[0].message

        await self._acall_with_config(answer, chat, config)
        return results[0]

    def _to_show(self, checked: Checked) -> Shown:
        return Shown(self.model, checked.chat, checked.message, checked.outcome.answer)


def _shown(checked: Checked, message: AIMessage) -> Checked:
    return Checked(checked.chat, message, checked.outcome)
