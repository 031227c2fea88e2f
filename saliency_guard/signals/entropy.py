"""Entropy of the next-token distribution.

Source: predictive entropy, a standard uncertainty baseline (Malinin and Gales, arXiv 2002.07650).
"""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def entropy(trace: AnswerTrace) -> Tensor:
    """``[N]`` entropy in nats of the distribution that predicts each token."""
    logprobs = trace.logits.log_softmax(-1)
    return -(logprobs.exp() * torch.where(logprobs.isinf(), 0.0, logprobs)).sum(-1)
