"""Log-likelihood with the picture against one without content.

Source: the ratio behind contrastive decoding for LVLMs (VCD, arXiv 2311.16922), read as a score; VCD contrasts
with a picture drowned in noise, this with a uniform one.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def contrast(trace: AnswerTrace) -> Tensor:
    """``[N]`` log-probability with the pictures minus that with uniform ones (zeros, after normalisation)."""
    return trace.scores.logprobs - trace.blank_logprobs
