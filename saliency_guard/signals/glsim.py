"""Global and local similarity of a token's state with the picture's.

Source: GLSim, arXiv 2508.19972: similarity with the last prompt position (global), and with the image
positions where the logit lens sees the token most (local), weighted. The layer is a fraction of the depth.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from saliency_guard.signals.trace import AnswerTrace

GLOBAL_WEIGHT = 0.6
TOP = 8
LAYER = 0.75


def glsim(trace: AnswerTrace) -> Tensor:
    """``[N]`` weighted cosine similarity in -1..1; NaN without image."""
    if trace.lens.numel() == 0 or bool(trace.lens.isnan().any()):
        return torch.full_like(trace.scores.logprobs, torch.nan)
    layer = round(LAYER * (len(trace.states) - 1))
    states = functional.normalize(trace.states[layer].float(), dim=-1)
    tokens = states[trace.layout.length :]
    image = states[trace.image_positions.to(states.device)]
    best = trace.lens[layer].topk(min(TOP, image.shape[0]), dim=0).indices
    local = (tokens @ image.T).gather(1, best.T).mean(dim=1)
    whole = tokens @ states[trace.layout.length - 1]
    return GLOBAL_WEIGHT * whole + (1 - GLOBAL_WEIGHT) * local
