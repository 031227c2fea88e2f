"""How scattered the token's attention to a picture is.

Source: the attention dispersion score of arXiv 2604.04863. The tenth of the patches with most attention is parted into
blobs of patches that touch; blobs of a single patch are taken for attention sinks and left out. Dispersion is what
attention the blobs do not have, and how evenly it lies on all other patches (entropy, as a part of the largest there
could be). The paper joins both; with which weights is not said where we could read it: here they are added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from saliency_guard.models.layers import resolve_layers
from saliency_guard.saliency.boxes import blobs
from saliency_guard.signals.looks import picture_grids
from saliency_guard.signals.trace import AnswerTrace

LAYERS = (5 / 32, 19 / 32)
PART = 0.1


def ads(trace: AnswerTrace) -> Tensor:
    """``[N]`` from 0 (one compact blob) to 2; of several pictures the least; NaN where patches are no square grid."""
    unknown = torch.full_like(trace.scores.logprobs, torch.nan)
    grids = picture_grids(trace.layout.picture_owners)
    if not grids or min(side for _, side in grids) < 2:
        return unknown
    layers = resolve_layers(LAYERS, trace.looks.shape[1])
    looks = trace.looks[:, list(layers)].mean(dim=1)
    return torch.tensor(
        [
            min(_dispersion(row[start : start + side * side].view(side, side)) for start, side in grids)
            for row in looks.double()
        ]
    ).to(unknown)


def _dispersion(attention: Tensor) -> float:
    shares = attention.flatten() / attention.sum().clamp_min(torch.finfo(attention.dtype).tiny)
    marked = torch.zeros(len(shares), dtype=torch.bool)
    marked[shares.topk(max(1, math.ceil(PART * len(shares)))).indices] = True
    kept = [patch for blob in blobs(marked.view(attention.shape)) if len(blob) > 1 for patch in blob]
    rest = torch.ones(len(shares), dtype=torch.bool)
    rest[kept] = False
    background = shares[rest] / shares[rest].sum().clamp_min(torch.finfo(shares.dtype).tiny)
    entropy = float(torch.special.entr(background).sum()) / math.log(len(background))
    return 1.0 - float(shares[kept].sum()) + entropy
