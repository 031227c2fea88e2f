"""Facts about a model's architecture, and what works with it, from its config and processor alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from saliency_guard.chat.pictures import picture_token
from saliency_guard.embedded import EMBEDDED, EMBEDDED_PATH
from saliency_guard.models.layers import target_layers
from saliency_guard.models.load import opened, require_pictures
from saliency_guard.models.memory import memory_of
from saliency_guard.models.source import Source
from saliency_guard.models.supported import refusal
from saliency_guard.saliency.config import SaliencyConfig

_SAMPLE = (448, 448)


def describe_model(model: str) -> dict[str, Any]:
    """Facts about a model, without loading its weights.

    Args:
        model: ``"embedded"``, a local folder, or a hub id.

    Raises:
        ModelError: if there is no such model, or it is not an image-text-to-text model.
    """
    source: str | Path = EMBEDDED_PATH if model == EMBEDDED else model
    with opened(source, {}, {}, weights=False) as (place, hub):
        config = require_pictures(place, hub)
        with torch.device("meta"):
            empty = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
        image_tokens = _image_tokens(place, hub, config)
    text = config.get_text_config()
    depth = text.num_hidden_layers
    kinds = Counter(getattr(text, "layer_types", None) or ["full_attention"] * depth)
    reason = refusal(empty)
    readable = reason is None and bool(getattr(empty, "_supports_attention_backend", False))
    softmax = all(kind.endswith("attention") and "linear" not in kind for kind in kinds)
    kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return {
        "architecture": type(empty).__name__,
        "parameters": sum(parameter.numel() for parameter in empty.parameters()),
        "memory_gib": _memory(empty),
        "dtype": str(config.dtype).removeprefix("torch."),
        "layers": depth,
        "target_layers": list(target_layers(empty, SaliencyConfig().layers)),
        "attention_kinds": dict(kinds),
        "attention_heads": text.num_attention_heads,
        "key_value_heads": kv_heads,
        "context_length": getattr(text, "max_position_embeddings", None),
        "image_tokens": image_tokens,
        "saliency": readable,
        "locore": readable,
        "sgrs": readable,
        "drafting": readable and softmax,
        **({} if reason is None else {"not supported": reason}),
    }


def _memory(empty: PreTrainedModel) -> dict[str, float]:
    """GiB of weights in three kinds, and of what 1,000 positions take."""
    memory = memory_of(empty, SaliencyConfig().layers)
    values = {
        "bfloat16": memory.bfloat16,
        "int8": memory.int8,
        "nf4": memory.nf4,
        "cache_of_1000_positions": memory.cache,
        "scoring_of_1000_positions": memory.attention,
    }
    return {name: round(value, 3) for name, value in values.items()}


def _image_tokens(place: Source, hub: Mapping[str, Any], config: Any) -> int | None:
    """Number of positions that a square picture of 448 pixels takes; None if that is not known."""
    try:
        processor = AutoProcessor.from_pretrained(place.location, **hub)
        messages = [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", _SAMPLE)}]}]
        encoded = processor.apply_chat_template([messages], tokenize=True, return_dict=True, return_tensors="pt")
    except (OSError, ValueError, ImportError):
        return None  # A folder with only a config: the other facts do not need a processor.
    token = picture_token(config)
    return None if token is None else int((encoded["input_ids"] == token).sum())
