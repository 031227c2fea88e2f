"""Saliency over its recent mean, the quantity that SGRS compares with alpha.

Source: Eq. 7 of "Hallucination Begins Where Saliency Drops", arXiv 2601.20279.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from saliency_guard.signals.trace import AnswerTrace

WINDOW = 5


def saliency_ratio(trace: AnswerTrace) -> Tensor:
    """``[N]`` S of each token over the mean S of up to five tokens before it; NaN for the first two."""
    scores = trace.scores.saliency
    result = torch.full_like(scores, torch.nan)
    known = scores[1:]  # The first token has none.
    if len(known) > 1:
        windows = functional.pad(known[:-1], (WINDOW - 1, 0)).unfold(0, WINDOW, 1)
        counts = torch.arange(1, len(known), device=scores.device).clamp(max=WINDOW)
        recent = windows.sum(dim=-1) / counts
        result[2:] = torch.where(recent > 0, known[1:] / recent, torch.nan)
    return result
