"""Drafts: answers that may be refused are made where no stream, callback or tracer of the caller sees them.

The answer that a guard gives out is shown afterwards, as the run of a model that says it: to callbacks, tracers and
every kind of stream it looks as if it had been written in one go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableBinding, RunnableSequence, RunnableWithFallbacks, ensure_config
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import _configure_hooks, tracing_v2_callback_var
from langsmith import tracing_context

from langchain_saliency_guard._events import silent
from langchain_saliency_guard._tools import as_chunks
from saliency_guard import GroundedAnswer

_HIDDEN = "nostream"
"""The tag that keeps a model's tokens out of LangGraph's streams."""


@contextmanager
def unobserved() -> Iterator[None]:
    """Calls inside reach no callback handler, stream or tracer of the caller."""
    config = ensure_config()
    quiet: Any = {**config, "callbacks": None, "tags": [*(config.get("tags") or ()), _HIDDEN]}
    # Handlers also come from context variables: tracers, and hooks such as `get_usage_metadata_callback`.
    variables: list[ContextVar[Any]] = [tracing_v2_callback_var, *(hook[0] for hook in _configure_hooks)]
    tokens = [(variable, variable.set(None)) for variable in variables]
    token = var_child_runnable_config.set(quiet)
    try:
        with tracing_context(enabled=False), silent():
            yield
    finally:
        var_child_runnable_config.reset(token)
        for variable, earlier in reversed(tokens):
            variable.reset(earlier)


def quiet(model: Any, **changes: Any) -> Any:
    """A copy of a model without the callbacks that it was made with, however it is wrapped.

    Args:
        model: the model.
        **changes: to the chat models in it.
    """
    if isinstance(model, BaseChatModel):
        tags = [*(model.tags or ()), _HIDDEN]
        return model.model_copy(update={"callbacks": None, "tags": tags, "verbose": False, **changes})
    if isinstance(model, RunnableBinding):
        config = {**model.config, "callbacks": None}
        return model.model_copy(
            update={"bound": quiet(model.bound, **changes), "config": config, "config_factories": []}
        )
    if isinstance(model, RunnableWithFallbacks):
        fallbacks = [quiet(fallback, **changes) for fallback in model.fallbacks]
        return model.model_copy(update={"runnable": quiet(model.runnable, **changes), "fallbacks": fallbacks})
    if isinstance(model, RunnableSequence):
        middle = [quiet(step, **changes) for step in model.middle]
        return model.model_copy(
            update={"first": quiet(model.first, **changes), "middle": middle, "last": quiet(model.last, **changes)}
        )
    return model


def pieces(message: AIMessage, answer: GroundedAnswer | None) -> Iterator[AIMessageChunk]:
    """A finished message in chunks that add up to it.

    Args:
        message: the message.
        answer: what was scored; its tokens are the chunks if they are the message's text.
    """
    texts = [] if answer is None else [token.text for token in answer.tokens]
    contents: list[Any] = texts if texts and "".join(texts) == message.content else [message.content]
    for content in contents:
        yield AIMessageChunk(content=content, id=message.id)
    yield AIMessageChunk(
        content="",
        id=message.id,
        name=message.name,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        tool_call_chunks=as_chunks(message.tool_calls, message.invalid_tool_calls),
        chunk_position="last",
    )


class _Says(BaseChatModel):
    """A model that says a finished message, under another model's name."""

    message: Any
    answer: Any = None
    shown_as: str
    ls_params: dict[str, Any]

    @property
    def _llm_type(self) -> str:
        return self.shown_as

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        return super().get_name(suffix, name=name or self.shown_as)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:  # noqa: ARG002
        return cast("LangSmithParams", dict(self.ls_params))

    def _generate(
        self,
        messages: list[BaseMessage],  # noqa: ARG002 - LangChain's signature
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.message.model_copy())])

    def _stream(
        self,
        messages: list[BaseMessage],  # noqa: ARG002 - LangChain's signature
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in pieces(self.message, self.answer):
            yield ChatGenerationChunk(message=chunk)


class Shown:
    """Shows a finished message to the caller's callbacks, streams and tracers, as a run of the model that wrote it.

    Args:
        model: what wrote it.
        messages: what it answers.
        message: the message.
        answer: its scores, whose tokens are streamed; None streams it whole.
    """

    def __init__(
        self, model: Any, messages: Sequence[BaseMessage], message: AIMessage, answer: GroundedAnswer | None = None
    ) -> None:
        chat_model = _chat_model(model)
        self._message = message
        self._messages = list(messages)
        self._says = _Says(
            message=message,
            answer=answer,
            shown_as=chat_model.get_name() if chat_model is not None else "GuardedModel",
            ls_params=dict(chat_model._get_ls_params()) if chat_model is not None else {},
            callbacks=chat_model.callbacks if chat_model is not None else None,
            tags=chat_model.tags if chat_model is not None else None,
            metadata=chat_model.metadata if chat_model is not None else None,
            cache=False,
        )

    def show(self) -> AIMessage:
        """Show it; returns it with the id under which it was shown."""
        return self._with_id(self._says.invoke(self._messages))

    async def ashow(self) -> AIMessage:
        """As `show`."""
        return self._with_id(await self._says.ainvoke(self._messages))

    def _with_id(self, shown: BaseMessage) -> AIMessage:
        return self._message if self._message.id else self._message.model_copy(update={"id": shown.id})


_MAX_DEPTH = 8


def _chat_model(model: Any) -> BaseChatModel | None:
    """The chat model in a runnable, if there is one that can be told."""
    inner: Any = model
    for _ in range(_MAX_DEPTH):
        if isinstance(inner, BaseChatModel):
            return inner
        inner = next((getattr(inner, name) for name in ("bound", "runnable", "last") if hasattr(inner, name)), None)
    return None
