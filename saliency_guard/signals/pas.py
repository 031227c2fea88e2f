"""Attention to the model's own output in the first layer.

Source: PAS, the prelim attention score, arXiv 2511.11502.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.answer_rows import SOURCES
from saliency_guard.signals.trace import AnswerTrace


def pas(trace: AnswerTrace) -> Tensor:
    """``[N]`` attention of the first layer on the output so far, mean over heads, in 0..1."""
    return trace.attention[:, 0, :, SOURCES.index("output")].mean(dim=1)
