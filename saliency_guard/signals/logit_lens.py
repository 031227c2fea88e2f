"""Evidence at the image positions by the logit lens.

Source: the internal confidence of arXiv 2410.02762 (largest probability of the token over all image
positions and layers); VisER, arXiv 2608.30480, is similar.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def logit_lens(trace: AnswerTrace) -> Tensor:
    """``[N]`` the largest log-probability of each token at any image position in any layer; NaN without image."""
    if len(trace.image_positions) == 0:
        return torch.full_like(trace.scores.logprobs, torch.nan)
    return trace.lens.flatten(0, 1).amax(dim=0)
