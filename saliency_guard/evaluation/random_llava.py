"""LLaVA with random weights, for timings: what a token costs does not depend on what the weights say."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

_IMAGE_TOKEN = 31_999


def random_llava(*, layers: int | None = None) -> PreTrainedModel:
    """About 300 million parameters in float32 on the CPU, and 576 tokens of a picture.

    Args:
        layers: number of decoder layers, instead of 18.
    """
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=_IMAGE_TOKEN + 1,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=18 if layers is None else layers,
        num_attention_heads=16,
        max_position_embeddings=8192,
    )
    return _random(vision, text)


def random_llava_7b(device: str = "cuda") -> PreTrainedModel:
    """The sizes of LLaVA 1.5 with 7 billion parameters in bfloat16, made where it runs."""
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=_IMAGE_TOKEN + 1,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=8192,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return _random(vision, text)
    finally:
        torch.set_default_dtype(before)


def _random(vision: CLIPVisionConfig, text: LlamaConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=_IMAGE_TOKEN,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )
    model: Any = LlavaForConditionalGeneration(config)
    built: PreTrainedModel = model.eval()
    return built


def llava_prompt(model: PreTrainedModel, length: int) -> dict[str, torch.Tensor]:
    """A picture and random words, ``length`` positions together."""
    generator = torch.Generator().manual_seed(length)
    words = torch.randint(10, _IMAGE_TOKEN, (length - 577,), generator=generator)
    ids = torch.cat([torch.tensor([1]), torch.full((576,), _IMAGE_TOKEN), words])[None]
    pixels = torch.randn(1, 3, 336, 336, generator=generator)
    return {
        "input_ids": ids.to(model.device),
        "attention_mask": torch.ones_like(ids).to(model.device),
        "pixel_values": pixels.to(model.device, model.dtype),
    }
