"""Evidence where the token looks: the logit lens, weighted by saliency over the image positions.

Source: of this project; the product of the row of Eq. 5 (arXiv 2601.20279) and the logit lens of
arXiv 2410.02762. A token may be somewhere in the picture and still not be what this row rests on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace

_TINY = 1e-12


def focused_lens(trace: AnswerTrace) -> Tensor:
    """``[N]`` log of the lens probability averaged over the image by saliency, in the best layer; NaN without image."""
    positions = trace.lens_positions.to(trace.rows.device)
    if len(positions) == 0:
        return torch.full_like(trace.scores.logprobs, torch.nan)
    looks = trace.rows[:, positions]
    weights = looks / looks.sum(dim=-1, keepdim=True).clamp_min(_TINY)
    seen = (weights.T[None] * trace.lens.to(weights).exp()).sum(dim=1)
    return seen.amax(dim=0).clamp_min(_TINY).log()  # NaN passes through
