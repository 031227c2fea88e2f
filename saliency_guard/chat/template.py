"""Messages to what the model takes: the processor's inputs, and which position of them belongs to which source."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat import detokenize as text_module
from saliency_guard.chat.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
from saliency_guard.chat.layout import PromptLayout, find_texts, prompt_layout
from saliency_guard.chat.messages import Conversation, parse_messages
from saliency_guard.chat.tools import checked_tools, in_words, merge_runs, takes_tools
from saliency_guard.errors import ContextLengthError, InputError, ModelError

Messages = Sequence[Mapping[str, Any]]
Prompt = tuple[dict[str, Tensor], PromptLayout]
"""What the processor returned for messages, and its layout."""


class PromptReader:
    """Reads messages for one model.

    Args:
        model: the model.
        processor: its processor, with a chat template.
        name: what to call the model in errors.
        require_image: whether messages without an image are refused.
        max_image_pixels: images with more pixels are refused.
        max_image_bytes: images of more bytes are refused.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        name: str,
        *,
        require_image: bool,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        max_image_bytes: int = MAX_IMAGE_BYTES,
    ) -> None:
        self._model = model
        self._processor = processor
        self._name = name
        self._require_image = require_image
        self._max_pixels = max_image_pixels
        self._max_bytes = max_image_bytes
        self._tools: tuple[Mapping[str, Any], ...] = ()

    def with_tools(self, tools: Sequence[Mapping[str, Any]]) -> PromptReader:
        """The same, whose prompts tell of tools; errors as for `checked_tools`."""
        other = copy.copy(self)
        other._tools = checked_tools(tools)
        return other

    @property
    def context_length(self) -> int | None:
        """Positions that prompt and answer may take together; None where the config does not say."""
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return int(limit) if limit else None

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return getattr(self._processor, "tokenizer", self._processor)

    def inputs(self, messages: Messages) -> dict[str, Tensor]:
        """What the processor returns for messages; errors as for `LVLM.inputs`."""
        return self._encoded(self._parse(messages))

    def _parse(self, messages: Messages) -> Conversation:
        return parse_messages(
            messages, max_pixels=self._max_pixels, max_bytes=self._max_bytes, require_image=self._require_image
        )

    def _encoded(self, conversation: Conversation) -> dict[str, Tensor]:
        if not getattr(self._processor, "chat_template", None):
            msg = f"the processor of {self._name} has no chat template: set processor.chat_template"
            raise ModelError(msg)
        messages = list(conversation.messages)
        if not takes_tools(self._processor):
            messages = in_words(messages, self._tools)
        try:
            try:
                encoded = self._applied(messages)
            except TemplateError:  # Many templates insist on roles that alternate.
                merged = merge_runs(messages)
                if len(merged) == len(messages):
                    raise
                encoded = self._applied(merged)
        except (ValueError, TypeError, IndexError, TemplateError) as error:
            msg = f"the processor of {self._name} does not take these messages: {error}"
            raise InputError(msg) from error
        dtype = self._model.dtype
        return {
            name: (value.to(self._model.device, dtype) if value.is_floating_point() else value.to(self._model.device))
            for name, value in encoded.items()
            if isinstance(value, Tensor)
        }

    def _applied(self, messages: list[dict[str, Any]]) -> Any:
        told = self._tools and takes_tools(self._processor)
        tools = {"tools": [dict(one) for one in self._tools]} if told else {}
        return self._processor.apply_chat_template(
            [messages], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **tools
        )

    def prompt(self, messages: Messages) -> Prompt:
        """Inputs and layout of messages.

        Raises:
            InputError: of the kinds that `LVLM.inputs` names.
            ModelError: if the processor is not one for pictures.
        """
        conversation = self._parse(messages)
        inputs = self._encoded(conversation)
        layout = prompt_layout(self._model.config, inputs).for_images(len(conversation.images))
        if conversation.images and not any(name.startswith("pixel_values") for name in inputs):
            msg = f"the processor of {self._name} returned no pixel values: is it a tokenizer alone?"
            raise ModelError(msg)
        if all(one.source is None for one in conversation.texts):
            return inputs, layout
        pieces = text_module.pieces(self.tokenizer, inputs["input_ids"][0].tolist(), skip_special_tokens=False)
        return inputs, layout.named(find_texts(layout, pieces, [(one.source, one.text) for one in conversation.texts]))

    def room(self, prompt: int, wanted: int) -> int:
        """How many tokens may follow a prompt of so many positions.

        Raises:
            ContextLengthError: if none may.
        """
        limit = self.context_length
        if limit is None:
            return wanted
        if prompt >= limit:
            msg = (
                f"the prompt takes {prompt} positions and {self._name} holds {limit}: shorten the text, send "
                "fewer or smaller images, or use a model with a longer context"
            )
            raise ContextLengthError(msg, needed=prompt + 1, limit=limit)
        return min(wanted, limit - prompt)

    def require_room(self, prompt: int, answer: int) -> None:
        """Raise `ContextLengthError` if prompt and answer do not fit together."""
        if self.room(prompt, answer) < answer:
            limit = self.context_length or 0
            msg = f"prompt ({prompt} positions) and answer ({answer}) do not fit the context of {limit}"
            raise ContextLengthError(msg, needed=prompt + answer, limit=limit)
