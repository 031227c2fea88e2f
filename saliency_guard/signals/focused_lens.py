"""Evidence at the image positions that the token rests on: the logit lens, weighted by saliency.

Source: this project; the product of the row of Eq. 5 (arXiv 2601.20279) and the logit lens of arXiv 2410.02762. A token
may have evidence somewhere in the picture without resting on it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace

_TINY = 1e-12


def focused_lens(trace: AnswerTrace) -> Tensor:
    """``[N]`` log of the saliency-weighted mean lens probability over the image, best layer; NaN without image."""
    positions = trace.lens_positions.to(trace.rows.device)
    if len(positions) == 0:
        return torch.full_like(trace.scores.logprobs, torch.nan)
    image_rows = trace.rows[:, positions]
    weights = image_rows / image_rows.sum(dim=-1, keepdim=True).clamp_min(_TINY)
    evidence = (weights.T[None] * trace.lens.to(weights).exp()).sum(dim=1)
    return evidence.amax(dim=0).clamp_min(_TINY).log()  # NaN passes through
