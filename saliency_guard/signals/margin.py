"""Margin between the two most probable tokens.

Source: margin sampling in active learning (Scheffer et al., 2001), a common confidence score.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def margin(trace: AnswerTrace) -> Tensor:
    """``[N]`` probability of the most probable token minus that of the second, at each position."""
    first, second = trace.logits.softmax(-1).topk(2).values.unbind(-1)
    return first - second
