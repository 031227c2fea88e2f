"""Negative log-likelihood.

Source: the standard baseline in studies of hallucination in language models; for LVLMs see, for instance,
arXiv 2508.19972.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def nll(trace: AnswerTrace) -> Tensor:
    """``[N]`` minus the natural log-probability of each token."""
    return -trace.scores.logprobs
