"""Saliency on the output so far.

Source: Eq. 6 of "Hallucination Begins Where Saliency Drops", arXiv 2601.20279.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def saliency(trace: AnswerTrace) -> Tensor:
    """``[N]`` S of each token; NaN for the first."""
    return trace.scores.saliency
