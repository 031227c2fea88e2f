"""Structured answers by constrained decoding: they always follow the schema, so they always parse."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, ValidationError

from llama_index.llms.saliency_guard.events import dispatcher
from saliency_guard import ConfigError
from saliency_guard.adapters import closed, requested_schema, shown

Model = TypeVar("Model", bound=BaseModel)


def json_schema_of(schema: Any) -> dict[str, Any] | None:
    """The JSON schema, given as a pydantic class, a ``response_format`` in OpenAI's form, or a JSON schema.

    Raises:
        ConfigError: if it is none of these.
    """
    schema = requested_schema(schema)
    if schema is None:
        return None
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return closed(schema.model_json_schema())
    if not isinstance(schema, Mapping):
        msg = f"a schema is a pydantic class or a JSON schema, not {shown(schema)}"
        raise ConfigError(msg)
    return closed(schema)


class StructuredAnswers(LLM):
    """An LLM whose `chat` takes a ``json_schema``."""

    def structured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **args: Any
    ) -> Model:
        """Answer a prompt with an object of a class.

        Args:
            output_cls: the class.
            prompt: the prompt template.
            llm_kwargs: settings of the call.
            **args: the values for the template.

        Raises:
            ConfigError: if ``max_new_tokens`` cuts the answer short.
            MissingExtraError: without the extra ``structured``.
        """
        messages = self._filled_in(output_cls, prompt, args)
        return self._object(output_cls, self.chat(messages, json_schema=output_cls, **(llm_kwargs or {})))

    async def astructured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **args: Any
    ) -> Model:
        """As `structured_predict`, without blocking the event loop."""
        messages = self._filled_in(output_cls, prompt, args)
        return self._object(output_cls, await self.achat(messages, json_schema=output_cls, **(llm_kwargs or {})))

    def stream_structured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **args: Any
    ) -> Generator[Model, None, None]:
        """As `structured_predict`: yields the object once, when it is complete."""
        yield self.structured_predict(output_cls, prompt, llm_kwargs, **args)

    async def astream_structured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **args: Any
    ) -> AsyncGenerator[Model, None]:
        """As `stream_structured_predict`."""

        async def objects() -> AsyncGenerator[Model, None]:
            yield await self.astructured_predict(output_cls, prompt, llm_kwargs, **args)

        return objects()

    def _filled_in(self, output_cls: type[Model], prompt: PromptTemplate, args: dict[str, Any]) -> list[ChatMessage]:
        dispatcher.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=args))
        return self._extend_messages(prompt.format_messages(llm=self, **args))

    @staticmethod
    def _object(output_cls: type[Model], response: ChatResponse) -> Model:
        try:
            parsed = output_cls.model_validate_json(response.message.content or "")
        except ValidationError as error:
            reason = response.raw["finish_reason"] if isinstance(response.raw, dict) else None
            problem = "was cut short: raise max_new_tokens" if reason == "length" else "does not fit its class"
            msg = f"the answer {problem} ({response.message.content!r})"
            raise ConfigError(msg) from error
        dispatcher.event(LLMStructuredPredictEndEvent(output=parsed))
        return parsed
