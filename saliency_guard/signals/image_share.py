"""Share of the predictor row's saliency that lies on the pictures.

Source: the product of Eq. 4 and 5 (arXiv 2601.20279) summed over image positions instead of the output.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def image_share(trace: AnswerTrace) -> Tensor:
    """``[N]`` share in 0..1, all pictures together."""
    shares = [trace.scores.shares[name] for name in trace.layout.visual_sources]
    return sum(shares, trace.scores.logprobs.new_zeros(len(trace.tokens)))
