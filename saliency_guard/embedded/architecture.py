"""The embedded model's shape: transformers' own LLaVA and Llama, small, with our vision tower; its processor."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from saliency_guard.embedded.vision_tower import GridVisionConfig

IMAGE_SIZE = 128
PATCH_SIZE = 16
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2
GRID = IMAGE_SIZE // PATCH_SIZE
CONTEXT_LENGTH = 2048
WIDTH = 192
_PLACE_SCALE = 20.0  # The tower's features are large: what is added to them has to be heard.

# Messages in the order given; an image stands where it was put, on a line of its own, and has a number if there are
# several.
CHAT_TEMPLATE = (
    "{% set pictures = namespace(all=0, number=0) %}"
    "{% for message in messages %}{% if message['content'] is not string %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{% set pictures.all = pictures.all + 1 %}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% elif message['role'] == 'assistant' %}ASSISTANT:\n{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{% set pictures.number = pictures.number + 1 %}"
    "{% if pictures.all > 1 %}Picture {{ pictures.number }}: {% endif %}<image>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:\n{% endif %}"
)


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A freshly initialised model for this tokenizer (torch's global seed decides the weights)."""
    vision = GridVisionConfig(hidden_size=WIDTH, image_size=IMAGE_SIZE, patch_size=PATCH_SIZE)
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=token_id(tokenizer, "<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        model.model.vision_tower.place_embedding.copy_(_PLACE_SCALE * _places(GRID, WIDTH))
    return model


def _places(side: int, width: int) -> Tensor:
    """``[side * side, width]`` sines and cosines of row and column, to begin with."""
    frequencies = math.pi * torch.arange(1, width // 4 + 1) / (width // 4) * side / 2
    along = torch.linspace(-1, 1, side)[:, None] * frequencies
    waves = torch.cat([along.sin(), along.cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, -1)


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """The processor: pictures are squeezed to a square, so that nothing at the sides is cut off."""
    images = CLIPImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
    )


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token of the vocabulary."""
    number = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(number, int):
        msg = f"{token!r} is not one token"
        raise TypeError(msg)
    return number
