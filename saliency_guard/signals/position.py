"""Position of a token in the answer: not evidence, but a baseline.

Source: one of the priors of HaloProbe, arXiv 2604.06165, which reports an AUROC of 81.7 for position, repetition
and occurrence alone, and 93.5 for the whole detector.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def position(trace: AnswerTrace) -> Tensor:
    """``[N]`` index in the answer, from 0."""
    return torch.arange(len(trace.tokens), dtype=torch.float32, device=trace.tokens.device)
