"""What enters the first layer of a model at the pictures of prompts, without running its decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout
from saliency_guard.models.forward import forget_rope, undisturbed
from saliency_guard.models.layer_states import entry_states

_TOGETHER = 8
"""Prompts that are read side by side."""
_STACKED = frozenset({
    "attention_mask", "image_grid_thw", "image_sizes", "input_ids", "mm_token_type_ids", "pixel_attention_mask",
    "pixel_values", "token_type_ids",
})  # fmt: skip
"""Inputs whose rows are those of one prompt, or picture, after another: others may count places in what is stacked."""


def entered_pictures(model: PreTrainedModel, prompts: Sequence[tuple[Mapping[str, Any], PromptLayout]]) -> list[Tensor]:
    """``[I, D]`` what enters the first layer at the positions of the pictures of each of several prompts.

    Prompts of the same shapes are read side by side.

    Args:
        model: whose prompts they are.
        prompts: inputs (without padding) and layout of each.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, (inputs, _) in enumerate(prompts):
        alike.setdefault(_shapes(inputs) or (number,), []).append(number)
    entered: dict[int, Tensor] = {}
    for numbers in alike.values():
        for first in range(0, len(numbers), _TOGETHER):
            part = numbers[first : first + _TOGETHER]
            with undisturbed(model):
                forget_rope(model)
                states = entry_states(model, _joined([prompts[number][0] for number in part]))
            for number, row in zip(part, states, strict=True):
                entered[number] = row[prompts[number][1].image_positions.to(row.device)]
    return [entered[number] for number in range(len(prompts))]


def _shapes(inputs: Mapping[str, Any]) -> tuple[object, ...]:
    """What prompts have to share to be read side by side; nothing where that cannot be."""
    if not inputs.keys() <= _STACKED or not all(isinstance(value, Tensor) for value in inputs.values()):
        return ()
    return tuple((name, tuple(inputs[name].shape), inputs[name].dtype) for name in sorted(inputs))


def _joined(prompts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if len(prompts) == 1:
        return prompts[0]
    return {name: torch.cat([inputs[name] for inputs in prompts]) for name in prompts[0]}
