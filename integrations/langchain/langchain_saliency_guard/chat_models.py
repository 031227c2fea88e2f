"""SaliencyGuardedLVLM: a local vision-language model whose answers come with what they rest on."""

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

from langchain_saliency_guard._batches import Batch, Place, alone, at, place
from langchain_saliency_guard._chunks import PROVIDER, last_chunks, result_of, token_chunk
from langchain_saliency_guard._events import Emitter, aduring, aiterate, current, during, iterate, with_run_id
from langchain_saliency_guard._happenings import Event, Events
from langchain_saliency_guard._identity import digest, plain
from langchain_saliency_guard._messages import by_content, to_core
from langchain_saliency_guard._requests import request
from langchain_saliency_guard._structured import structured
from langchain_saliency_guard._tools import as_functions
from saliency_guard import (
    TokenGrounding,
)
from saliency_guard.adapters.run import Finished
from saliency_guard.adapters.settings import Request, ServedLVLM
from saliency_guard.worker import in_thread


class SaliencyGuardedLVLM(ServedLVLM, BaseChatModel):
    """A local vision-language model as a LangChain chat model.

    Every answer has ``response_metadata["grounding"]``: the calibrated probability that it is grounded (None where no
    calibration fits), its tokens with what each rests on, and what a `policy` decided. Every chunk of a stream has its
    tokens under ``additional_kwargs["grounding_tokens"]``.

    The model is loaded when it is first used, once per process and configuration. Its settings are those of
    `saliency_guard.adapters.settings.ServedLVLM`, and these:

    Attributes:
        batch_size: answers written side by side by ``batch``.
        api_key: taken and not used: the model is local.
        max_retries: the same; see `policy`.
        streaming: whether ``invoke`` streams to handlers; None lets LangChain decide.
    """

    model_config = ServedLVLM.model_config  # LangChain's own would let misspelt settings pass.

    batch_size: int = Field(default=8, ge=1)
    api_key: SecretStr | None = Field(default=None, exclude=True)
    max_retries: int | None = Field(default=None, exclude=True)
    streaming: bool | None = None

    @property
    def _llm_type(self) -> str:
        return "saliency-guard"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """All that changes an answer: the cache must not give one setting's answer to another."""
        own = self.call_settings
        return {
            **{name: plain(value) for name, value in own.items()},
            "model": self.served_name,
            "device": self.device,
            "dtype": self.dtype,
            "revision": self.revision,
            "require_image": self.require_image,
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
            ls_max_tokens=kwargs.get("max_tokens", self.max_tokens),
        )
        stops = stop or ([self.stop] if isinstance(self.stop, str) else self.stop)
        return LangSmithParams(**params, ls_stop=stops) if stops else params

    def _resolve_model_profile(self) -> ModelProfile | None:
        # Known without loading. Without `structured_output`, agents ask for it as a call of a tool, which is forced.
        return ModelProfile(
            text_inputs=True,
            image_inputs=True,
            image_url_inputs=self.fetch_image is not None,
            image_tool_message=True,
            pdf_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            text_outputs=True,
            image_outputs=False,
            audio_outputs=False,
            video_outputs=False,
            structured_output=False,
        )

    def _request(self, stop: list[str] | None, kwargs: dict[str, Any]) -> Request:
        return request(self, kwargs, stop)

    def _core_messages(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        return to_core(messages, fetch_image=self.fetch_image)

    def _played(
        self, messages: list[BaseMessage], asked: Request, cancel: threading.Event
    ) -> Generator[tuple[list[Event], ChatGenerationChunk | None], None, None]:
        """Events and chunks in turn: what all ways of calling are made of."""
        lvlm = self.engine(asked.model)
        asked_of = self._core_messages(messages)
        here = place()
        run = here.happenings if here is not None and here.belongs_to(self, asked_of) else alone
        items = run(lvlm, asked_of, asked, cancel)
        events = Events()
        try:
            for item in items:
                shown = token_chunk(item) if isinstance(item, TokenGrounding) and asked.live else None
                yield events.of(item), shown
                for chunk in last_chunks(lvlm, item, asked) if isinstance(item, Finished) else ():
                    yield [], chunk
        finally:
            items.close()

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        emit = current(run_manager)
        played = self._played(messages, self._request(stop, kwargs), threading.Event())
        try:
            for events, chunk in played:
                for event in events:
                    emit(*event)
                if chunk is not None:
                    yield chunk
        finally:
            played.close()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        emit = current(run_manager)
        cancel = threading.Event()
        played = in_thread(self._played(messages, self._request(stop, kwargs), cancel), cancel)
        try:
            async for events, chunk in played:
                for event in events:
                    await emit.send(*event)
                if chunk is not None:
                    yield chunk
        finally:
            await played.aclose()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return result_of(list(self._stream(messages, stop, run_manager, **kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return result_of([chunk async for chunk in self._astream(messages, stop, run_manager, **kwargs)])

    # A run manager is not handed to `_stream` on every way there: the events find their run through a context variable.

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = partial(BaseChatModel._generate_with_cache, self._keyed(messages), messages, stop, run_manager, **kwargs)
        return during(current(run_manager), call)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model = self._keyed(messages)
        call = BaseChatModel._agenerate_with_cache(model, messages, stop, run_manager, **kwargs)
        return await aduring(current(run_manager), call)

    def _keyed(self, messages: list[BaseMessage]) -> BaseChatModel:
        """This model, without its cache where LangChain's key would not tell one picture from another."""
        return self if by_content(messages) else self.model_copy(update={"cache": False})

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Token by token; arguments as for `BaseChatModel.stream`. Closing the iterator stops the work."""
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
        """Token by token; arguments as for `BaseChatModel.astream`. Leaving it stops the work."""
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
        """Answers written side by side, `batch_size` at a time; each is the one that ``invoke`` gives.

        Args:
            inputs: chats.
            config: one for all, or one for each; ``max_concurrency`` bounds the size.
            return_exceptions: an error in the place of an answer instead of raising the first.
            **kwargs: as for ``invoke``.
        """
        configs = get_config_list(config, len(inputs))
        places = self._places(inputs, configs, kwargs)
        found: list[Any] = []
        for own, chat, how in zip(places, inputs, configs, strict=True):
            try:
                found.append(at(own, partial(self.invoke, chat, how, **kwargs)))
            except Exception as error:
                if not return_exceptions:
                    raise
                found.append(error)
        return found

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """As `batch`."""
        configs = get_config_list(config, len(inputs))
        places = self._places(inputs, configs, kwargs)
        tasks = [
            at(own, partial(asyncio.ensure_future, self.ainvoke(chat, how, **kwargs)))
            for own, chat, how in zip(places, inputs, configs, strict=True)
        ]
        try:
            found: list[Any] = await asyncio.gather(*tasks, return_exceptions=return_exceptions)
            return found
        finally:
            for task in tasks:
                task.cancel()

    def _places(
        self, inputs: Sequence[LanguageModelInput], configs: Sequence[RunnableConfig], kwargs: dict[str, Any]
    ) -> Sequence[Place | None]:
        """Each one's place in a batch; None where a policy, tools or a timeout have every answer written for itself."""
        asked = self._request(None, {name: value for name, value in kwargs.items() if name != "stop"})
        if not asked.live or asked.timeout is not None:
            return [None] * len(inputs)
        size = min([self.batch_size, *filter(None, (one.get("max_concurrency") for one in configs))])
        chats = [partial(self._chat, chat) for chat in inputs]
        batch = Batch(chats, size)
        return [Place(batch, index, self) for index in range(len(inputs))]

    def _chat(self, chat: LanguageModelInput) -> list[dict[str, Any]]:
        return self._core_messages(self._convert_input(chat).to_messages())

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Tell the model of tools.

        Args:
            tools: in any form LangChain takes.
            tool_choice: ``"any"``, ``True`` or the name of a tool: the answer is held to be a call (needs the extra
                ``structured`` of saliency-guard), with any model. None or ``"auto"``: the model may call one, if its
                chat template takes tools.
            **kwargs: bound, too.
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
        """Answers of a schema, by constrained decoding; works with any model (extra ``structured``).

        Args:
            schema: a pydantic class, a TypedDict, or a JSON schema.
            include_raw: a dict of ``raw``, ``parsed`` and ``parsing_error`` instead of the parsed answer.
            method: ``"json_schema"`` and ``"json_mode"`` hold the answer to the schema, ``"function_calling"`` to a
                call of a tool of that schema.
            **kwargs: ``strict`` is taken: answers always keep to the schema.
        """
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        return structured(self, schema, include_raw=include_raw, method=method, **kwargs)
