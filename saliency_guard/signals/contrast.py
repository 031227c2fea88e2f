"""Log-likelihood with the picture compared with a blank picture.

Source: the ratio of contrastive decoding for LVLMs (VCD, arXiv 2311.16922), used as a score; VCD contrasts with a noisy
picture, this signal with a uniform one.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.trace import AnswerTrace


def contrast(trace: AnswerTrace) -> Tensor:
    """``[N]`` log-probability with the pictures minus that with uniform ones (zeros, after normalisation)."""
    return trace.scores.logprobs - trace.blank_logprobs
