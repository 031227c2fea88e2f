"""Global and local similarity of a token's hidden state with the picture's.

Source: GLSim, arXiv 2508.19972: the weighted sum of the similarity with the last prompt position (global) and with the
image positions where the logit lens gives the token the highest probability (local). The layer is the one of the lens
nearest to a fraction of the depth.
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
    depth = round(LAYER * (len(trace.image_states) - 1))
    index = min(range(len(trace.lens_layers)), key=lambda at: abs(trace.lens_layers[at] - depth))
    layer = trace.lens_layers[index]
    output = functional.normalize(trace.output_states[layer].float(), dim=-1)
    image = functional.normalize(trace.image_states[layer][trace.lens_columns].float(), dim=-1)
    best = trace.lens[index].topk(min(TOP, image.shape[0]), dim=0).indices
    local = (output[1:] @ image.T).gather(1, best.T).mean(dim=1)
    return GLOBAL_WEIGHT * (output[1:] @ output[0]) + (1 - GLOBAL_WEIGHT) * local
