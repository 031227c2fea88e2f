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
