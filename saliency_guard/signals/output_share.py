"""Share of the predictor row's saliency that lies on the output so far.

Source: the product of Eq. 4 and 5 (arXiv 2601.20279); unlike S it is a sum over the output, not a mean.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.chat.layout import OUTPUT
from saliency_guard.signals.trace import AnswerTrace


def output_share(trace: AnswerTrace) -> Tensor:
    """``[N]`` share in 0..1."""
    return trace.scores.shares[OUTPUT]
