"""Tiny random models of real architectures, and prompts for them, without any processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    SiglipVisionConfig,
)

VOCABULARY = 97
IMAGE = 90
EOS = 2
GAIN = 1.0


_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "eos_token_id": EOS,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
"""What the tiny decoders have in common."""


@dataclass(frozen=True)
class Case:
    """A model and one prompt for it with two images."""

    model: PreTrainedModel
    inputs: dict[str, Tensor]


def _awake(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Weights large enough that attention is no longer flat and logits differ."""
    generator = torch.Generator().manual_seed(seed)
    zero_centred = model.config.model_type in {"gemma3", "paligemma"}  # their norms multiply by 1 + weight
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * (GAIN / parameter[0].numel() ** 0.5))
            else:
                parameter.copy_(
                    noise * 0.05 + (1.0 if "norm" in name and name.endswith("weight") and not zero_centred else 0.0)
                )
    return model.eval()


def _ids(*parts: int | list[int]) -> Tensor:
    flat: list[int] = []
    for part in parts:
        flat += [part] if isinstance(part, int) else part
    return torch.tensor([flat])


def _pixels(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def _llava(kv_heads: int) -> Case:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
        ),
        text_config=LlamaConfig(
            **{**_TEXT, "num_key_value_heads": kv_heads},
        ),
        image_token_id=IMAGE,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )
    model = _awake(LlavaForConditionalGeneration(config), 1)
    ids = _ids(1, 5, [IMAGE] * 4, 7, 8, [IMAGE] * 4, 9, 10, 11)
    return Case(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": _pixels(2, 3, 8, 8)})


def _qwen2_vl() -> Case:
    config = Qwen2VLConfig(
        text_config={
            **_TEXT,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=IMAGE,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
    )
    model = _awake(Qwen2VLForConditionalGeneration(config), 2)
    grid = torch.tensor([[1, 4, 4], [1, 4, 2]])
    ids = _ids(1, 5, 92, [IMAGE] * 4, 93, 7, 92, [IMAGE] * 2, 93, 9, 10)
    return Case(
        model,
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == IMAGE).long(),
            "pixel_values": _pixels(24, 3 * 2 * 4 * 4),
            "image_grid_thw": grid,
        },
    )


def _gemma3() -> Case:
    config = Gemma3Config(
        text_config=Gemma3TextConfig(
            **{**_TEXT, "num_hidden_layers": 6},
            head_dim=8,
            sliding_window=6,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
            query_pre_attn_scalar=8,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=4,
        ),
        mm_tokens_per_image=4,
        image_token_id=IMAGE,
        boi_token_id=92,
        eoi_token_id=93,
    )
    model = _awake(Gemma3ForConditionalGeneration(config), 3)
    ids = _ids(1, 5, 92, [IMAGE] * 4, 93, 7, 92, [IMAGE] * 4, 93, 9, 10)
    return Case(
        model,
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": (ids == IMAGE).long(),
            "pixel_values": _pixels(2, 3, 16, 16),
        },
    )


def _internvl() -> Case:
    config = InternVLConfig(
        text_config=Qwen2Config(
            **_TEXT,
        ),
        vision_config=InternVLVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=[16, 16],
            patch_size=[4, 4],
        ),
        image_token_id=IMAGE,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    model = _awake(InternVLForConditionalGeneration(config), 4)
    ids = _ids(1, 5, 92, [IMAGE] * 4, 93, 7, 92, [IMAGE] * 4, 93, 9, 10)
    return Case(
        model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": _pixels(2, 3, 16, 16)}
    )


def _lfm2_vl() -> Case:
    """Convolutions between the layers with attention."""
    config = Lfm2VlConfig(
        text_config={
            **_TEXT,
            "model_type": "lfm2",
            "layer_types": ["conv", "full_attention", "conv", "full_attention", "full_attention"],
        },
        vision_config={
            "model_type": "siglip2_vision_model",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 4,
            "num_patches": 16,
        },
        image_token_id=IMAGE,
    )
    model = _awake(Lfm2VlForConditionalGeneration(config), 6)
    ids = _ids(1, 5, [IMAGE] * 4, 7, 9, 10)
    return Case(
        model,
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": _pixels(1, 16, 48),
            "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
            "spatial_shapes": torch.tensor([[4, 4]]),
        },
    )


def _qwen3_5() -> Case:
    """Gated delta rules between the layers with attention, multimodal rotary positions."""
    config = Qwen3_5Config(
        text_config={
            **_TEXT,
            "head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": [
                "linear_attention",
                "full_attention",
                "linear_attention",
                "full_attention",
                "full_attention",
            ],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 24,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
        },
        image_token_id=IMAGE,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
    )
    model = _awake(Qwen3_5ForConditionalGeneration(config), 7)
    ids = _ids(1, 5, 92, [IMAGE] * 4, 93, 7, 9, 10)
    return Case(
        model,
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == IMAGE).long(),
            "pixel_values": _pixels(16, 3 * 2 * 4 * 4),
            "image_grid_thw": torch.tensor([[1, 4, 4]]),
        },
    )


BUILDERS: dict[str, Callable[[], Case]] = {
    "llava-mha": lambda: _llava(4),
    "llava-gqa": lambda: _llava(2),
    "qwen2-vl": _qwen2_vl,
    "gemma3": _gemma3,
    "internvl": _internvl,
}

RECURRENT: dict[str, Callable[[], Case]] = {"lfm2-vl": _lfm2_vl, "qwen3.5": _qwen3_5}
"""Models whose memory cannot be taken back."""

ANSWER = [12, 33, 7, 51, 33, 64, 20, 71]


def build(name: str) -> Case:
    """A fresh tiny model; the same name gives the same weights."""
    return {**BUILDERS, **RECURRENT}[name]()


def to(case: Case, dtype: torch.dtype) -> Case:
    """The same case in another precision."""
    inputs: dict[str, Any] = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in case.inputs.items()
    }
    return Case(case.model.to(dtype), inputs)
