"""How much what a model reads off a picture changes when the picture is mirrored.

A model that knows what it sees names the same things in a picture and in its mirror image; in pictures of an unknown
kind it takes the same drawing for one thing here and for another there, as surely. What is read off a picture are the
words that the logit lens (arXiv 2410.02762) finds at its positions before the first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout
from saliency_guard.models.forward import forget_rope, undisturbed
from saliency_guard.models.layer_states import entry_states
from saliency_guard.models.lens import has_lens, lens_logits
from saliency_guard.models.vision_features import picture_rows, spread


def words_seen(model: PreTrainedModel, states: Tensor) -> Tensor | None:
    """``[V]`` the largest probability that the lens gives to each token at any of the positions; None without a lens.

    Args:
        model: whose lens it is.
        states: ``[n, D]`` of a picture, before the first layer; of many, some are looked at (`spread`).
    """
    with torch.no_grad():
        logits = lens_logits(model, spread(states).to(model.device), normalised=False)
        return logits.softmax(dim=-1).amax(dim=0) if logits is not None else None


def picture_changes(
    model: PreTrainedModel,
    layout: PromptLayout,
    states: Tensor,
    mirrored: Mapping[str, Any],
    mirrored_layout: PromptLayout,
) -> Tensor:
    """``[pictures]`` sum of the absolute differences of `words_seen`, of each picture and its mirror image.

    NaN where the model has no lens, or sees pictures across.

    Args:
        model: whose prompt it is.
        layout: of a prompt with pictures.
        states: ``[I, D]`` at their positions, before the first layer.
        mirrored: inputs of a prompt with the same pictures, mirrored.
        mirrored_layout: of that prompt.
    """
    count = len(layout.visual_sources)
    unknown = torch.full((count,), torch.nan)
    if layout.across or not has_lens(model) or len(mirrored_layout.visual_sources) != count:
        return unknown
    with undisturbed(model):
        forget_rope(model)
        entered = entry_states(model, mirrored)[0]
    others = entered[mirrored_layout.image_positions.to(entered.device)]
    changes: list[Tensor] = []
    for rows, other_rows in zip(picture_rows(layout), picture_rows(mirrored_layout), strict=True):
        seen, other = words_seen(model, states[rows]), words_seen(model, others[other_rows])
        if seen is None or other is None:
            return unknown
        changes.append((seen - other).abs().sum().float().cpu())
    return torch.stack(changes)
