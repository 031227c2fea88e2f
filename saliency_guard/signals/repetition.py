"""How often a token was written before: like the position, a part of the floor.

Source: one of the priors of HaloProbe, arXiv 2604.06165.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def repetition(trace: AnswerTrace) -> Tensor:
    """``[N]`` how often the same token stands earlier in the answer."""
    same = trace.tokens[:, None] == trace.tokens[None, :]
    return torch.tril(same, diagonal=-1).sum(-1).float()
