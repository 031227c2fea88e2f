"""Uncertainty, and how much less of it there is with the picture than without.

Source: vision-aware uncertainty quantification (VAUQ, arXiv 2602.21054): entropy minus a part of the image information
score, the entropy that seeing the picture takes away. The paper hides the region that the answer looks at most, and
averages over the answer; this signal hides the whole picture (a uniform one in its place), since a trace has no pass
with parts of a picture hidden, and is per token.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.signals.entropy import entropy
from saliency_guard.signals.trace import AnswerTrace

WEIGHT = 1.0


def vauq(trace: AnswerTrace) -> Tensor:
    """``[N]`` nats: high where the model is unsure, or as sure without the picture."""
    seen = entropy(trace)
    return seen - WEIGHT * (trace.blank_entropy.to(seen) - seen)
