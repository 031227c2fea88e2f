"""A family that nobody has compared with brute force is compared with itself, on the first prompt it is given.

It is continued from keys and values, through our attention, and the same text is read whole, through its own. Where the
logits differ, something of it is not handled: a mask, a position, an argument of its attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from saliency_guard.errors import UnsupportedModelError
from saliency_guard.models.forward import forget_rope, last_logits, undisturbed
from saliency_guard.models.inputs import extended

COMPARED = frozenset(
    [
        *["aya_vision", "chameleon", "cohere2_vision", "deepseek_vl", "ernie4_5_vl_moe", "fuyu", "gemma3", "gemma3n"],
        *["gemma4", "glm46v", "glm4v", "glm_ocr", "got_ocr2", "hunyuan_vl", "idefics2", "idefics3", "internvl"],
        *["janus", "kosmos-2", "kosmos-2.5", "lfm2_vl", "lighton_ocr", "llama4", "llava", "llava_next"],
        *["llava_onevision", "mistral3", "mllama", "molmo2", "ovis2", "paddleocr_vl", "paligemma", "phi4_multimodal"],
        *["qwen2_5_vl", "qwen2_vl", "qwen3_5", "qwen3_vl", "qwen3_vl_moe", "smolvlm", "vipllava"],
    ]
)
"""Model types that ``make families`` compares with brute force."""

_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}
_OF_HALF = 0.25
"""How far logits may be apart, as a part of the largest; in half precision rounding may choose other experts."""

_CHECKED: WeakSet[nn.Module] = WeakSet()


def needs_check(model: PreTrainedModel) -> bool:
    """Whether a model is of a family that is not known, and has not been looked at."""
    return model.config.model_type not in COMPARED and model not in _CHECKED


def check_continuation(model: PreTrainedModel, inputs: Mapping[str, Any], tokens: list[int], logits: Tensor) -> None:
    """Compare a continuation with the model's own pass over all of it.

    Args:
        model: as it was loaded.
        inputs: of the prompt, without padding.
        tokens: that were fed after the prompt.
        logits: ``[len(tokens) + 1, V]`` of the continuation, from the prompt's last token on.

    Raises:
        UnsupportedModelError: if they differ.
    """
    with undisturbed(model):
        forget_rope(model)
        whole = {**extended(inputs, tokens), "use_cache": False}
        plain = last_logits(model, whole, len(tokens) + 1)[0].to(logits)
    known = plain.isfinite() & logits.isfinite()
    largest = float(plain[known].abs().max())
    apart = float((plain - logits)[known].abs().max())
    if not apart <= _TOLERANCE.get(logits.dtype, _OF_HALF) * largest:
        msg = (
            f"{type(model).__name__} ({model.config.model_type}) is not supported: continued from keys and values its "
            f"logits are up to {apart:.3g} from those of one pass over the same text (the largest is {largest:.3g}): "
            "something of it is not handled, and its scores would be wrong"
        )
        raise UnsupportedModelError(msg)
    _CHECKED.add(model)
