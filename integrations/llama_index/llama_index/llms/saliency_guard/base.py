"""SaliencyGuardedLVLM: a local vision-language model as a LlamaIndex LLM, with grounding scores."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from functools import partial
from typing import Any, cast

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools import BaseTool, ToolSelection
from pydantic import Field

from llama_index.llms.saliency_guard._collecting import CollectedCall, GroundingCollector, collectors, current_attempt
from llama_index.llms.saliency_guard._messages import image_block, to_core
from llama_index.llms.saliency_guard._responses import RunStep, completion, responses
from llama_index.llms.saliency_guard._structured import StructuredAnswers, json_schema_of
from llama_index.llms.saliency_guard._tools import as_functions
from llama_index.llms.saliency_guard.events import dispatcher
from saliency_guard import LVLM, ConfigError, MessageError
from saliency_guard.adapters import (
    Finished,
    ReportDetail,
    Request,
    RunEvent,
    ServedLVLM,
    in_thread,
    required_tools,
    run_request,
    shown,
    takes_tools,
)


class SaliencyGuardedLVLM(ServedLVLM, StructuredAnswers, FunctionCallingLLM, CustomLLM):
    """A local vision-language model as a LlamaIndex LLM.

    Every response has ``raw["grounding"]`` (and the same under ``additional_kwargs["grounding"]``): the calibrated
    probability that it is grounded (``score``; None where no calibration fits), why there is none, and the decision of
    the `policy`; with ``report="tokens"`` its tokens with their sources, too. The responses of a stream have what is
    new, the last one has the whole report. ``logprobs`` are exact.

    The model is loaded by the constructor, once per process and configuration. It has the settings of
    `saliency_guard.adapters.ServedLVLM`, and these:

    Attributes:
        context_window: number of tokens that prompt and answer may take together, used by LlamaIndex to pack prompts;
            None takes it from the model's config. LlamaIndex counts every picture as 2,125 tokens, whatever its true
            length: with a small window it asks about one picture at a time and refines; a larger number here makes it
            ask once.
        is_function_calling_model: whether agents may give it tools; None means whether its chat template supports
            tools. If it does not and this is True, the prompt describes the tools in words.
    """

    model_config = ServedLVLM.model_config  # LlamaIndex's would accept misspelt settings.

    context_window: int | None = Field(default=None, gt=0)
    is_function_calling_model: bool | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Load the model now, because LlamaIndex reads its metadata inside event loops."""
        super().model_post_init(context)
        self.engine()

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled; never without the policy.

        LlamaIndex leaves out what cannot be pickled, and only logs that: a model would lose its guard.

        Raises:
            ConfigError: if the policy, the model or ``fetch_image`` cannot be pickled.
        """
        state: dict[str, Any] = super().__getstate__()
        lost = [name for name in ("policy", "lvlm", "fetch_image") if name not in state["__dict__"]]
        if lost:
            msg = (
                f"{lost[0]} cannot be pickled, and a model without it would be another one: use functions of a module "
                "instead of lambdas, or make the model anew in the other process"
            )
            raise ConfigError(msg)
        return state

    @classmethod
    def class_name(cls) -> str:
        """Name of the class when serialised."""
        return "SaliencyGuardedLVLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex needs to pack prompts and to choose agents."""
        lvlm = self.engine()
        calls_tools = self.is_function_calling_model
        return LLMMetadata(
            context_window=self.context_window or lvlm.context_length or DEFAULT_CONTEXT_WINDOW,
            num_output=self.max_new_tokens,
            is_chat_model=True,
            is_function_calling_model=takes_tools(lvlm.processor) if calls_tools is None else calls_tools,
            model_name=self.served_name,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a chat.

        Args:
            messages: messages with text, image, document and tool blocks.
            **kwargs: settings for this call; ``tools`` and ``tool_choice``; ``json_schema`` (or ``response_format``), a
                pydantic class or a schema that the answer must follow.

        Raises:
            InputError: if the messages cannot be used.
            ConfigError: for an unknown option.
            LowGroundingError: from a policy with ``on_low="raise"``.
        """
        return _last(list(self._streamed(messages, kwargs, streams=False)))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """As `chat`, token by token; with a policy, only the answer that it chooses is streamed."""
        return self._streamed(messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """As `chat`, without blocking the event loop; cancelling the task stops generation."""
        return _last([response async for response in self._astreamed(messages, kwargs, streams=False)])

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """As `stream_chat`, without blocking the event loop; closing the stream stops generation."""
        return self._astreamed(messages, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt.

        Args:
            prompt: the user's text.
            formatted: whether ``completion_to_prompt`` was already applied.
            **kwargs: as for `chat`, and ``image_documents``: the pictures of the prompt.

        Raises:
            SaliencyGuardError: as `chat`.
        """
        chat = self._chat_of(prompt, kwargs, formatted=formatted)
        return completion(_last(list(self._streamed(*chat, streams=False))))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """As `complete`, token by token."""
        streamed = self._streamed(*self._chat_of(prompt, kwargs, formatted=formatted))

        def completions() -> CompletionResponseGen:
            try:
                yield from map(completion, streamed)
            finally:
                streamed.close()

        return completions()

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """As `complete`, without blocking the event loop."""
        streamed = self._astreamed(*self._chat_of(prompt, kwargs, formatted=formatted), streams=False)
        return completion(_last([response async for response in streamed]))

    @llm_completion_callback()
    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """As `stream_complete`, without blocking the event loop."""
        streamed = self._astreamed(*self._chat_of(prompt, kwargs, formatted=formatted))

        async def completions() -> CompletionResponseAsyncGen:
            try:
                async for response in streamed:
                    yield completion(response)
            finally:
                await streamed.aclose()

        return completions()

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,
        **_: Any,
    ) -> list[ToolSelection]:
        """The tool calls of a response.

        Args:
            response: a response of `chat_with_tools` or one of its variants.
            error_on_no_tool_call: whether a response without a tool call is an error.

        Raises:
            ValueError: if there is no tool call and ``error_on_no_tool_call`` is set.
        """
        calls = [
            ToolSelection(
                tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=cast("Any", block.tool_kwargs)
            )
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]
        if not calls and error_on_no_tool_call:
            msg = f"the model called no tool; it answered: {response.message.content!r}"
            raise ValueError(msg)
        return calls

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002 - LlamaIndex's signature
        allow_parallel_tool_calls: bool = False,  # noqa: ARG002 - LlamaIndex's signature
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        message = ChatMessage(user_msg, role=MessageRole.USER) if isinstance(user_msg, str) else user_msg
        is_chosen = kwargs.get("tool_choice") is not None
        choice = {"tool_choice": "required"} if tool_required and not is_chosen else {}
        messages = [*(chat_history or ()), *([] if message is None else [message])]
        return {"messages": messages, "tools": as_functions(tools), **kwargs, **choice}

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],  # noqa: ARG002 - LlamaIndex's signature
        allow_parallel_tool_calls: bool = False,
        **_: Any,
    ) -> ChatResponse:
        blocks = response.message.blocks
        extra_calls = [block for block in blocks if isinstance(block, ToolCallBlock)][1:]
        if not allow_parallel_tool_calls and extra_calls:
            response.message.blocks = [block for block in blocks if block not in extra_calls]
        return response

    def _chat_of(
        self, prompt: str, kwargs: dict[str, Any], *, formatted: bool
    ) -> tuple[list[ChatMessage], dict[str, Any]]:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        if not isinstance(prompt, str):
            msg = f"a prompt must be a text, not {shown(prompt)}"
            raise MessageError(msg)
        pictures = [image_block(picture) for picture in kwargs.get("image_documents") or ()]
        options = {name: value for name, value in kwargs.items() if name != "image_documents"}
        return [ChatMessage(role=MessageRole.USER, blocks=[*pictures, TextBlock(text=prompt)])], options

    def _request(self, kwargs: dict[str, Any]) -> Request:
        planned = current_attempt()
        options = {**(planned.settings if planned is not None else {}), **kwargs}
        tools = as_functions(options.pop("tools", None) or ())
        forced = required_tools(tools, options.pop("tool_choice", None))
        response_format = options.pop("response_format", None)
        schema = json_schema_of(options.pop("json_schema", response_format))
        return self.request(options, tools=tools, forced=forced, json_schema=schema)

    def _run(
        self, messages: Sequence[ChatMessage], request: Request, cancel: threading.Event, *, streams: bool
    ) -> Generator[RunStep, None, None]:
        """Events and responses of an answer; every way of calling the model goes through here."""
        active = collectors()
        planned = current_attempt()
        convert = partial(to_core, fetch_image=self.fetch_image)
        try:
            lvlm = self.engine(request.model)
            addition = planned.request if planned is not None else ""
            run_events = run_request(lvlm, request, messages, convert, cancel=cancel, addition=addition, live=streams)
            collected = _collected(run_events, lvlm, active, self.report)
            attempt = planned.number if planned is not None else 0
            yield from responses(lvlm, collected, request, self.report, streams=streams, attempt=attempt)
        except Exception as error:
            for collector in active:
                collector.errors.append(error)
            raise

    def _streamed(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], *, streams: bool = True
    ) -> Generator[ChatResponse, None, None]:
        steps = self._run(messages, self._request(kwargs), threading.Event(), streams=streams)

        def streamed() -> Generator[ChatResponse, None, None]:
            try:
                for events, response in steps:
                    for event in events:
                        dispatcher.event(event)
                    if response is not None:
                        yield response
            finally:
                steps.close()

        return streamed()

    def _astreamed(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], *, streams: bool = True
    ) -> AsyncGenerator[ChatResponse, None]:
        cancel = threading.Event()
        steps = in_thread(self._run(messages, self._request(kwargs), cancel, streams=streams), cancel)

        async def streamed() -> AsyncGenerator[ChatResponse, None]:
            try:
                async for events, response in steps:
                    for event in events:
                        dispatcher.event(event)
                    if response is not None:
                        yield response
            finally:
                await steps.aclose()

        return streamed()


def _collected(
    run_events: Generator[RunEvent, None, None],
    lvlm: LVLM,
    active: tuple[GroundingCollector, ...],
    detail: ReportDetail,
) -> Generator[RunEvent, None, None]:
    """Pass the events on, and add the finished answer to the collectors."""
    try:
        for event in run_events:
            if isinstance(event, Finished):
                for collector in active:
                    collector.calls.append(CollectedCall(lvlm, event, detail))
            yield event
    finally:
        run_events.close()


def _last(streamed: list[ChatResponse]) -> ChatResponse:
    return streamed[-1].model_copy(update={"delta": None})
