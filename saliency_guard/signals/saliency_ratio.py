"""Saliency over its recent mean, the quantity that SGRS compares with alpha.

Source: Eq. 7 of "Hallucination Begins Where Saliency Drops", arXiv 2601.20279.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace

WINDOW = 5


def saliency_ratio(trace: AnswerTrace) -> Tensor:
    """``[N]`` S of each token over the mean S of up to five tokens before it; NaN for the first two."""
    scores = trace.scores.saliency
    result = torch.full_like(scores, torch.nan)
    for index in range(2, len(scores)):
        recent = scores[max(1, index - WINDOW) : index].mean()
        if recent > 0:
            result[index] = scores[index] / recent
    return result
