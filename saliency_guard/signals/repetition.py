"""Number of earlier occurrences of a token in the answer: like the position, a baseline.

Source: one of the priors of HaloProbe, arXiv 2604.06165.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def repetition(trace: AnswerTrace) -> Tensor:
    """``[N]`` number of earlier occurrences of the same token in the answer."""
    same = trace.tokens[:, None] == trace.tokens[None, :]
    return torch.tril(same, diagonal=-1).sum(-1).float()
