"""SaliencyGuardedLVLM: a local vision-language model as a LangChain chat model, with grounding scores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import get_config_list
from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field, SecretStr

from langchain_saliency_guard._batches import Batch, Place, at_place, place_of
from langchain_saliency_guard._chunks import PROVIDER, last_chunks, result_of, token_chunk
from langchain_saliency_guard._events import (
    Emitter,
    Event,
    aduring,
    aiterate,
    current,
    during,
    iterate,
    note_run,
    watched,
    with_run_id,
)
from langchain_saliency_guard._grounding_events import GroundingEvents, cached_events, progress, raised_event
from langchain_saliency_guard._identity import digest, plain, profile
from langchain_saliency_guard._messages import by_content, to_core
from langchain_saliency_guard._requests import request
from langchain_saliency_guard._structured import structured
from langchain_saliency_guard._token_counts import prompt_length, text_ids
from langchain_saliency_guard._tools import as_functions
from langchain_saliency_guard._verdicts import record
from saliency_guard import LowGroundingError, TokenGrounding
from saliency_guard.adapters import Finished, Request, ServedLVLM, in_thread, run_request


class SaliencyGuardedLVLM(ServedLVLM, BaseChatModel):
    """A local vision-language model as a LangChain chat model.

    Every answer has ``response_metadata["grounding"]``: the calibrated probability that it is grounded (``score``; None
    where no calibration fits), why there is none, and the decision of the `policy`. With ``report="tokens"`` the report
    has every token with its sources, and every chunk of a stream its own under
    ``additional_kwargs["grounding_tokens"]``.

    The model is loaded on first use, once per process and configuration. It has the settings of
    `saliency_guard.adapters.ServedLVLM`, and these:

    Attributes:
        batch_size: number of answers that ``batch`` generates together.
        api_key: accepted and ignored: the model is local.
        max_retries: accepted and ignored; see `policy`.
        streaming: whether ``invoke`` streams to handlers; None lets LangChain decide.
    """

    model_config = ServedLVLM.model_config  # LangChain's would accept misspelt settings.

    batch_size: int = Field(default=8, ge=1)
    api_key: SecretStr | None = Field(default=None, exclude=True)
    max_retries: int | None = Field(default=None, exclude=True)
    streaming: bool | None = None

    @property
    def _llm_type(self) -> str:
        return "saliency-guard"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Everything that can change an answer, so that the cache never mixes settings up."""
        return {
            **{name: plain(value) for name, value in self.call_settings.items()},
            "model": self.served_name,
            "device": self.device,
            "dtype": self.dtype,
            "revision": self.revision,
            "require_image": self.require_image,
            "report": self.report,
            "role_markers": self.role_markers,
            "model_kwargs": repr(sorted(self.model_kwargs.items())),
            "calibrator": digest(self.lvlm.calibrator) if self.lvlm is not None else None,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider=PROVIDER,
            ls_model_name=kwargs.get("model", self.served_name),
            ls_model_type="chat",
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get("max_tokens", kwargs.get("max_new_tokens", self.max_new_tokens)),
        )
        stops = stop or ([self.stop] if isinstance(self.stop, str) else self.stop)
        return LangSmithParams(**params, ls_stop=stops) if stops else params

    def _resolve_model_profile(self) -> ModelProfile | None:
        return profile(fetches=self.fetch_image is not None)

    def _request(self, stop: list[str] | None, kwargs: dict[str, Any]) -> Request:
        return request(self, kwargs, stop)

    def _core_messages(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        return to_core(messages, fetch_image=self.fetch_image)

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of a text's tokens, by the model's own tokenizer."""
        return text_ids(self.engine(), text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """How many tokens messages take in the model's prompt, pictures included; `trim_messages` counts by it."""
        return prompt_length(self.engine(), self._core_messages(messages), as_functions(tools or ()))

    def _run(
        self, messages: list[BaseMessage], request: Request, emit: Emitter, cancel: threading.Event, *, streams: bool
    ) -> Generator[tuple[list[Event], ChatGenerationChunk | None], None, None]:
        """Custom events and chunks of an answer; every way of calling the model goes through here."""
        note_run()
        if request.policy is not None:
            yield [progress(0, "writing")], None
        lvlm = self.engine(request.model)
        place = place_of(emit.run_id)
        if place is not None:
            run_events = place.run_events(lvlm, request, cancel)
        else:
            run_events = run_request(lvlm, request, messages, self._core_messages, cancel=cancel, live=streams)
        grounding_events = GroundingEvents(self.report)
        try:
            for event in run_events:
                is_live = streams and request.live and isinstance(event, TokenGrounding)
                chunk = token_chunk(event, self.report) if isinstance(event, TokenGrounding) and is_live else None
                if chunk is not None or emit.is_heard:
                    yield grounding_events.of(event), chunk
                if isinstance(event, Finished):
                    record(event.outcome)
                    chunks = last_chunks(lvlm, event, request, self.report, streams=streams)
                    yield from (([], last) for last in chunks)
        except LowGroundingError as error:
            yield [raised_event(error, self.report)], None
            raise
        finally:
            run_events.close()

    def _chunks(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        emit: Emitter,
        kwargs: dict[str, Any],
        *,
        streams: bool,
    ) -> Iterator[ChatGenerationChunk]:
        """The chunks of an answer, those of a stream as they come; without, tokens are scored when all are there."""
        steps = self._run(messages, self._request(stop, kwargs), emit, threading.Event(), streams=streams)
        try:
            for events, chunk in steps:
                for event in events:
                    emit(*event)
                if chunk is not None:
                    yield chunk
        finally:
            steps.close()

    async def _achunks(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        emit: Emitter,
        kwargs: dict[str, Any],
        *,
        streams: bool,
    ) -> AsyncIterator[ChatGenerationChunk]:
        """As `_chunks`."""
        cancel = threading.Event()
        steps = in_thread(self._run(messages, self._request(stop, kwargs), emit, cancel, streams=streams), cancel)
        try:
            async for events, chunk in steps:
                for event in events:
                    await emit.send(*event)
                if chunk is not None:
                    yield chunk
        finally:
            await steps.aclose()

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        return self._chunks(messages, stop, current(run_manager), kwargs, streams=True)

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        return self._achunks(messages, stop, current(run_manager), kwargs, streams=True)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return result_of(list(self._chunks(messages, stop, current(run_manager), kwargs, streams=False)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = self._achunks(messages, stop, current(run_manager), kwargs, streams=False)
        return result_of([chunk async for chunk in chunks])

    # LangChain does not always pass a run manager to `_stream`: a context variable gives the events their run.

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model, emit = self._cached(messages, kwargs), current(run_manager)
        call = partial(BaseChatModel._generate_with_cache, model, messages, stop, run_manager, **kwargs)
        with watched() as runs:
            result = during(emit, call)
        for event in [] if runs else cached_events(result, kwargs.get("policy", self.policy)):
            emit(*event)
        return result

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model, emit = self._cached(messages, kwargs), current(run_manager)
        call = BaseChatModel._agenerate_with_cache(model, messages, stop, run_manager, **kwargs)
        with watched() as runs:
            result = await aduring(emit, call)
        for event in [] if runs else cached_events(result, kwargs.get("policy", self.policy)):
            await emit.send(*event)
        return result

    def _cached(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> BaseChatModel:
        """This model; without its cache if LangChain's cache key does not cover the pictures or a logits processor."""
        has_key = by_content(messages) and kwargs.get("logits_processor") is None
        return self if has_key else self.model_copy(update={"cache": False})

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream token by token; arguments of `BaseChatModel.stream`. Closing the iterator stops generation."""
        config = with_run_id(config)
        emitter = Emitter.of_config(config, self.callbacks, asynchronous=False)
        chunks: Any = super().stream(input, config, stop=stop, **kwargs)  # A generator.
        return iterate(emitter, chunks)

    def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream token by token; arguments of `BaseChatModel.astream`. Closing the iterator stops generation."""
        config = with_run_id(config)
        emitter = Emitter.of_config(config, self.callbacks, asynchronous=True)
        chunks: Any = super().astream(input, config, stop=stop, **kwargs)
        return aiterate(emitter, chunks)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer several chats, `batch_size` at a time; the answers are the same as from ``invoke``.

        Args:
            inputs: the chats.
            config: a configuration for all or a list with one per chat; ``max_concurrency`` limits the batch size.
            return_exceptions: return errors in place of answers instead of raising the first one.
            **kwargs: as for ``invoke``.
        """
        configs = [with_run_id(each) for each in get_config_list(config, len(inputs))]
        places = self._places(inputs, configs, kwargs)
        answers: list[Any] = []
        for place, chat, chat_config in zip(places, inputs, configs, strict=True):
            try:
                answers.append(at_place(place, partial(self.invoke, chat, chat_config, **kwargs)))
            except Exception as error:
                if not return_exceptions:
                    raise
                answers.append(error)
        return answers

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """As `batch`."""
        configs = [with_run_id(each) for each in get_config_list(config, len(inputs))]
        places = self._places(inputs, configs, kwargs)
        tasks = [
            at_place(place, partial(asyncio.ensure_future, self.ainvoke(chat, chat_config, **kwargs)))
            for place, chat, chat_config in zip(places, inputs, configs, strict=True)
        ]
        try:
            answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=return_exceptions)
            return answers
        finally:
            for task in tasks:
                task.cancel()

    def _places(
        self, inputs: Sequence[LanguageModelInput], configs: Sequence[RunnableConfig], kwargs: dict[str, Any]
    ) -> Sequence[Place | None]:
        """The place of each chat in a batch; None if a policy, tools or a timeout need each chat answered singly."""
        request = self._request(None, {name: value for name, value in kwargs.items() if name != "stop"})
        if not request.live or request.generation["timeout"] is not None:
            return [None] * len(inputs)
        limits = [config.get("max_concurrency") for config in configs]
        size = min([self.batch_size, *(limit for limit in limits if limit)])
        batch = Batch([partial(self._converted, chat) for chat in inputs], size)
        return [Place(batch, index, config.get("run_id")) for index, config in enumerate(configs)]

    def _converted(self, chat: LanguageModelInput) -> list[dict[str, Any]]:
        return self._core_messages(self._convert_input(chat).to_messages())

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Give the model tools.

        Args:
            tools: in any form LangChain takes.
            tool_choice: ``"any"``, ``True`` or the name of a tool constrains the answer to a tool call, with any model
                (needs the extra ``structured`` of saliency-guard). None or ``"auto"``: the model may call a tool if
                its chat template supports tools.
            **kwargs: also bound.
        """
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=as_functions(tools), **choice, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Structured answers by constrained decoding, with any model (extra ``structured``).

        Args:
            schema: a pydantic class, a TypedDict, or a JSON schema.
            include_raw: return a dict of ``raw``, ``parsed`` and ``parsing_error`` instead of the parsed answer.
            method: ``"json_schema"`` and ``"json_mode"`` constrain the answer to the schema, ``"function_calling"`` to
                a call of a tool with that schema.
            **kwargs: ``strict`` is accepted and ignored: answers always follow the schema.
        """
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        return structured(self, schema, include_raw=include_raw, method=method, **kwargs)
