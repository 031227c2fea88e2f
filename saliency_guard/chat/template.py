"""From messages to model inputs: what the processor returns, and the source of each position."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.control_tokens import ControlTokens, control_tokens, template_text
from saliency_guard.chat.encode import EncodedPrompt, PromptEncoder, rendered
from saliency_guard.chat.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
from saliency_guard.chat.layout import PromptLayout, prompt_layout
from saliency_guard.chat.locate import with_texts
from saliency_guard.chat.messages import Conversation, parse_messages
from saliency_guard.chat.patches import Boxes, patch_boxes
from saliency_guard.chat.pictures import PictureCounter, PictureMemo, holds_pixels, picture_token
from saliency_guard.chat.role_markers import RoleMarkers, RoleMarkersIn, find_role_markers, role_markers_in
from saliency_guard.chat.tools import checked_tools
from saliency_guard.errors import ConfigError, ContextLengthError, InputError, ModelError
from saliency_guard.placement import working_device

Messages = Sequence[Mapping[str, Any]]
_Fact = TypeVar("_Fact")


_WRONG = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions of a processor for messages that it does not support, or of one whose files are damaged."""


_SIZES_KEPT = 64
"""Sizes of pictures of which it is remembered where their positions lie."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPrompt:
    """A prepared prompt for one model.

    Attributes:
        inputs: what the processor returned.
        layout: which position belongs to which source.
        conversation: the messages, checked and with their pictures; None where they are not known.
    """

    inputs: Mapping[str, Tensor]
    layout: PromptLayout
    conversation: Conversation | None = None

    @property
    def length(self) -> int:
        """Positions, images included."""
        return self.layout.length


class PromptReader:
    """Reads messages for one model.

    Args:
        model: the model.
        processor: its processor, with a chat template.
        name: what to call the model in errors.
        require_image: whether messages without an image are refused.
        max_image_pixels: images with more pixels are refused.
        max_image_bytes: images of more bytes are refused.
        role_markers: what to do with text of a message that looks like the template's own.
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
        role_markers: RoleMarkersIn = "keep",
    ) -> None:
        self._model = model
        self._processor = processor
        self._name = name
        self._require_image = require_image
        self._max_pixels = max_image_pixels
        self._max_bytes = max_image_bytes
        self._tools: tuple[Mapping[str, Any], ...] = ()
        self._role_markers = role_markers_in(role_markers)
        self._known: dict[str, tuple[object, Any]] = {}  # Shared with all readers that `with_tools` makes.
        self._patches: dict[tuple[tuple[int, int], int], Boxes | None] = {}

    def with_tools(self, tools: Sequence[Mapping[str, Any]]) -> PromptReader:
        """A copy whose prompts describe tools; errors as for `checked_tools`."""
        other = copy.copy(self)
        other._tools = checked_tools(tools)
        return other

    @property
    def tells_tools(self) -> bool:
        """Whether its prompts describe tools: then there may be calls in answers."""
        return bool(self._tools)

    def patch_boxes(self, image: Image.Image, count: int) -> Boxes | None:
        """The part of a picture that each of its ``count`` positions shows; None where that is not known."""
        key = (image.size, count)
        if key not in self._patches:
            while len(self._patches) >= _SIZES_KEPT:
                self._patches.pop(next(iter(self._patches), key), None)
            self._patches[key] = patch_boxes(self._processor, self._model.config, *key)
        return self._patches.get(key)

    def without_pictures(self) -> PromptReader:
        """The same, which reads messages without a picture, too."""
        other = copy.copy(self)
        other._require_image = False
        return other

    @property
    def model(self) -> PreTrainedModel:
        """The model whose prompts are read."""
        return self._model

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
        return self._tensors(self._encoded(self._parse(messages), locate=False))

    def _parse(self, messages: Messages) -> Conversation:
        return parse_messages(
            messages, max_pixels=self._max_pixels, max_bytes=self._max_bytes, require_image=self._require_image
        )

    def _sizes(self, counter: PictureCounter, ids: Tensor) -> list[int] | None:
        """How many positions each picture takes, as the processor wrote them."""
        token = picture_token(self._model.config)
        is_known = token is not None and token < len(self.tokenizer)
        name = self.tokenizer.convert_ids_to_tokens(token) if is_known else None
        return counter.sizes(name, ids.flatten().tolist().count(token)) if isinstance(name, str) else None

    def _encoded(self, conversation: Conversation, *, locate: bool, processor: Any = None) -> EncodedPrompt:
        if not getattr(self._processor, "chat_template", None):
            msg = f"the processor of {self._name} has no chat template: set processor.chat_template"
            raise ModelError(msg)
        try:
            return self._encoder(processor or self._processor).encode(conversation, locate=locate)
        except (InputError, ConfigError):
            raise
        except (*_WRONG, TemplateError) as error:
            msg = f"the processor of {self._name} does not take these messages: {error}"
            raise InputError(msg) from error

    def _tensors(self, encoded: EncodedPrompt) -> dict[str, Tensor]:
        dtype, device = self._model.dtype, working_device(self._model)
        return {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in encoded.data.items()
            if isinstance(value, Tensor)
        }

    def _encoder(self, processor: Any) -> PromptEncoder:
        return PromptEncoder(processor, self._tools, self.controls, self._markers)

    @property
    def controls(self) -> ControlTokens:
        """The control tokens of the processor's tokenizer."""
        return self.remembered("controls", self._find_controls)

    def _find_controls(self) -> ControlTokens:
        config = self._model.config
        configs = [config, config.get_text_config(), getattr(self._model, "generation_config", None)]
        return control_tokens(self.tokenizer, self._processor, [each for each in configs if each is not None])

    @property
    def _markers(self) -> RoleMarkers:
        return RoleMarkers() if self._role_markers == "keep" else self.remembered("role markers", self._find_markers)

    def _find_markers(self) -> RoleMarkers:
        render = partial(rendered, self._processor, tools=[])
        return RoleMarkers(find_role_markers(render, self.controls), self._role_markers)

    def remembered(self, name: str, find: Callable[[], _Fact]) -> _Fact:
        """Facts about tokenizer and template; determined again when these have changed."""
        version = (len(self.tokenizer), tuple(self.tokenizer.all_special_tokens), template_text(self._processor))
        known, value = self._known.get(name, (None, None))
        if known != version:
            value = find()
            self._known[name] = (version, value)
        return cast("_Fact", value)

    def prepare(self, messages: Messages, *, memo: PictureMemo | None = None) -> PreparedPrompt:
        """Inputs and layout of messages.

        Args:
            messages: what to read.
            memo: keeps what the processor makes of the pictures, for other messages that show the same ones.

        Raises:
            InputError: of the kinds that `LVLM.inputs` names.
            ModelError: if the processor is not one for pictures.
        """
        conversation = self._parse(messages)
        if memo is not None:
            memo.show(conversation.images)
        counter = PictureCounter(self._processor, memo)
        encoded = self._encoded(conversation, locate=True, processor=counter.processor)
        inputs = self._tensors(encoded)
        sizes = self._sizes(counter, inputs["input_ids"])
        layout = prompt_layout(self._model.config, inputs, sizes).for_images(len(conversation.images))
        if conversation.images and not any(map(holds_pixels, inputs)):
            msg = f"the processor of {self._name} returned no pixel values: is it a tokenizer alone?"
            raise ModelError(msg)
        layout = with_texts(layout, encoded, conversation.texts, self.tokenizer)
        for source, reason in layout.unlocated:
            warnings.warn(f"{source!r} has no share of its own and counts as text: {reason}", stacklevel=3)
        return PreparedPrompt(inputs, layout, conversation)

    def room(self, prompt: int, wanted: int) -> int:
        """The number of tokens that may follow a prompt of a given length.

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
