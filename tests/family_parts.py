"""What the tiny models of `families` have in common."""

from __future__ import annotations

from typing import Any

import tiny
import torch
import transformers as hf
from tiny import IMAGE, Case

VIDEO = 91

START = 92

END = 93

OF_PICTURES = ("pixel", "image_", "spatial_", "aspect_", "flattened_")
"""How inputs begin that are of pictures, and not of positions."""

CLIP: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
"""A tower of 4 by 4 patches."""


def case(model: Any, seed: int, ids: torch.Tensor, **inputs: torch.Tensor) -> Case:
    return Case(tiny._awake(model, seed), {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs})


def two_pictures(each: int) -> torch.Tensor:
    return tiny._ids(1, 5, START, [IMAGE] * each, END, 7, START, [IMAGE] * each, END, 9, 10)


def siglip(**changes: Any) -> dict[str, Any]:
    return {"model_type": "siglip_vision_model", "vision_use_head": False, **CLIP, **changes}


def llama(**changes: Any) -> hf.LlamaConfig:
    return hf.LlamaConfig(**{**tiny._TEXT, **changes})


def prefixed(case: Case, before: list[int]) -> dict[str, torch.Tensor]:
    """The prompt with more text before it."""
    ids = case.inputs["input_ids"]
    result = dict(case.inputs)
    for key, value in case.inputs.items():
        if key == "cross_attention_mask":
            result[key] = torch.cat([value[:, :1].expand(-1, len(before), -1, -1), value], dim=1)
        elif value.shape == ids.shape and not is_of_pictures(key):
            filler = 1 if key == "attention_mask" else -100 if key == "labels" else 0
            added = torch.tensor([before]) if key == "input_ids" else torch.full((1, len(before)), filler)
            result[key] = torch.cat([added.to(value), value], dim=1)
    return result


def is_of_pictures(key: str) -> bool:
    return key.startswith(OF_PICTURES) and key != "image_embeds_position_mask"
