"""What a model's vision tower hands to its decoder, pooled: one vector for each picture of a prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.models.session import Session


def pooled_vision_features(session: Session) -> Tensor:
    """``[pictures, D]`` float32: the mean of what stands at each picture's positions before the first layer.

    Args:
        session: a prompt that was read with the states at its pictures.
    """
    states = session.image_states
    pictures = sorted(session.layout.visual_sources, key=_number)
    if not states or not pictures:
        return torch.empty(0, 0)
    owners = [span.source for span in session.layout.spans if span.is_visual for _ in range(span.stop - span.start)]
    embeddings = states[0].detach().float().cpu()
    rows = [[index for index, owner in enumerate(owners) if owner == name] for name in pictures]
    return torch.stack([embeddings[row].mean(dim=0) for row in rows])


def _number(source: str) -> tuple[str, int]:
    kind, _, number = source.partition("_")
    return kind, int(number)
