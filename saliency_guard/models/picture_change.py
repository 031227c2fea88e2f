"""How much what a model reads off a picture changes when the picture is mirrored.

A model that knows what it sees names the same things in a picture and in its mirror image; in pictures of an unknown
kind it takes the same drawing for one thing here and for another there, as surely. What is read off a picture are the
words that the logit lens (arXiv 2410.02762) finds at its positions before the first layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout
from saliency_guard.models.forward import forget_rope, undisturbed
from saliency_guard.models.layer_states import entry_states
from saliency_guard.models.lens import has_lens, lens_logits
from saliency_guard.models.vision_features import picture_rows, spread

_TOGETHER = 8
"""Prompts that are read side by side."""
_STACKED = frozenset({
    "attention_mask", "image_grid_thw", "image_sizes", "input_ids", "mm_token_type_ids", "pixel_attention_mask",
    "pixel_values", "token_type_ids",
})  # fmt: skip
"""Inputs whose rows are those of one prompt, or picture, after another: others may count places in what is stacked."""


def words_seen(model: PreTrainedModel, states: Tensor) -> Tensor | None:
    """``[V]`` the largest probability that the lens gives to each token at any of the positions; None without a lens.

    Args:
        model: whose lens it is.
        states: ``[n, D]`` of a picture, before the first layer; of many, some are looked at (`spread`).
    """
    with torch.no_grad():
        logits = lens_logits(model, spread(states).to(model.device), normalised=False)
        return logits.softmax(dim=-1).amax(dim=0) if logits is not None else None


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


def reads_changes(model: PreTrainedModel, layout: PromptLayout) -> bool:
    """Whether it can be said how pictures change: the model has a lens, and does not see them across."""
    return has_lens(model) and not layout.across


def picture_changes(
    model: PreTrainedModel, layout: PromptLayout, states: Tensor, others: Tensor, mirrored: PromptLayout
) -> Tensor:
    """``[pictures]`` sum of the absolute differences of `words_seen`, of each picture and its mirror image.

    NaN where they are not told apart.

    Args:
        model: whose prompt it is; `reads_changes`.
        layout: of a prompt with pictures.
        states: ``[I, D]`` at their positions, before the first layer.
        others: the same of a prompt with the pictures mirrored.
        mirrored: the layout of that prompt.
    """
    count = len(layout.visual_sources)
    unknown = torch.full((count,), torch.nan)
    if len(mirrored.visual_sources) != count:
        return unknown
    changes: list[Tensor] = []
    for rows, other_rows in zip(picture_rows(layout), picture_rows(mirrored), strict=True):
        seen, other = words_seen(model, states[rows]), words_seen(model, others[other_rows])
        if seen is None or other is None:
            return unknown
        changes.append((seen - other).abs().sum().float().cpu())
    return torch.stack(changes)
