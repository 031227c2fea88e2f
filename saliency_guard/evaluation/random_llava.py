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
    return _random(vision=(256, 4), width=1024, inner=2816, layers=18 if layers is None else layers, heads=16)


def random_llava_7b(device: str = "cuda") -> PreTrainedModel:
    """The sizes of LLaVA 1.5 with 7 billion parameters in bfloat16, made where it runs."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return _random(vision=(1024, 24), width=4096, inner=11_008, layers=32, heads=32)
    finally:
        torch.set_default_dtype(before)


def _random(*, vision: tuple[int, int], width: int, inner: int, layers: int, heads: int) -> PreTrainedModel:
    """A model of these sizes; of its vision tower the width and the number of layers."""
    torch.manual_seed(0)
    vision_width, vision_layers = vision
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=vision_width,
            intermediate_size=4 * vision_width,
            num_hidden_layers=vision_layers,
            num_attention_heads=vision_width // 64,
            image_size=336,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=_IMAGE_TOKEN + 1,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=8192,
        ),
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
