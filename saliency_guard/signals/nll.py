"""Negative log-likelihood.

Source: the plain baseline of every study of hallucination in language models; for LVLMs, among others,
arXiv 2508.19972 reports it.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def nll(trace: AnswerTrace) -> Tensor:
    """``[N]`` minus the natural log-probability of each token."""
    return -trace.scores.logprobs
