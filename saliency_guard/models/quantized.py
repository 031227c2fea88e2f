"""Weights in 8 or 4 bits, by bitsandbytes: what to tell `LVLM.load`, so that a model fits a smaller card."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from transformers import BitsAndBytesConfig

from saliency_guard.errors import ConfigError, require_extra

Quantization = Literal["int8", "nf4"]


def quantized(kind: str | None) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a kind of weights; none for None.

    Args:
        kind: ``"int8"`` or ``"nf4"``; of the linear layers, the head excepted.

    Raises:
        ConfigError: for any other.
        MissingExtraError: if bitsandbytes or accelerate is not installed.
    """
    if kind is None:
        return {}
    if kind not in get_args(Quantization):
        msg = f"weights can be quantised as {' or '.join(get_args(Quantization))}, not as {kind!r}"
        raise ConfigError(msg)
    require_extra("bitsandbytes", "bitsandbytes", "quantized")
    require_extra("accelerate", "accelerate", "quantized")
    half = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    config = (
        BitsAndBytesConfig(load_in_8bit=True)
        if kind == "int8"
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=half)
    )
    return {"quantization_config": config, "device_map": {"": "cuda" if torch.cuda.is_available() else "cpu"}}
