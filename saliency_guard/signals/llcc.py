"""Whether the patches that the token looks at most would be named as the token.

Source: the logit lens consistency check of "Same Attention, Different Truths" (CVPR 2026): hallucinated objects get as
much attention as real ones, but the patches they look at do not decode to them. Attention and lens are those of layers
20 to 27 of 32 there ("image attention stage"), here of the same part of the depth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.models.layers import resolve_layers
from saliency_guard.signals.trace import AnswerTrace

LAYERS = (20 / 32, 28 / 32)
TOP = 5


def llcc(trace: AnswerTrace) -> Tensor:
    """``[N]`` the largest log-probability of the token at the patches it looks at most; NaN without image or lens."""
    if len(trace.image_positions) == 0 or bool(trace.lens.isnan().any()):
        return torch.full_like(trace.scores.logprobs, torch.nan)
    stage = resolve_layers(LAYERS, trace.looks.shape[1])
    looks = trace.looks[:, list(stage)].mean(dim=1)[:, trace.lens_columns]
    best = looks.topk(min(TOP, looks.shape[1]), dim=1).indices.to(trace.lens.device)
    after = {layer + 1 for layer in stage}  # States after layer l are number l + 1.
    nearest = min(trace.lens_layers, key=lambda depth: min(abs(depth - each) for each in after))
    chosen = [index for index, depth in enumerate(trace.lens_layers) if depth in after or depth == nearest]
    lens = trace.lens[chosen].amax(dim=0)  # [positions, N]
    return lens.gather(0, best.T).amax(dim=0).to(trace.scores.logprobs.device)
