"""Margin between the two likeliest tokens.

Source: margin sampling in active learning (Scheffer et al., 2001), used as a confidence everywhere since.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def margin(trace: AnswerTrace) -> Tensor:
    """``[N]`` probability of the likeliest token minus that of the second, at each position."""
    first, second = trace.logits.softmax(-1).topk(2).values.unbind(-1)
    return first - second
