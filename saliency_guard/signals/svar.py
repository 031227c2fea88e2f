"""Attention to the image in the middle layers.

Source: SVAR, the summed visual attention ratio, arXiv 2411.16724: layers 5 to 18 of 32 of LLaVA-1.5-7B,
mean over heads, of the row that predicts the token.
"""

from __future__ import annotations

from torch import Tensor

from saliency_guard.models.layers import resolve_layers
from saliency_guard.signals.answer_rows import SOURCES
from saliency_guard.signals.trace import AnswerTrace

LAYERS = (5 / 32, 19 / 32)


def svar(trace: AnswerTrace) -> Tensor:
    """``[N]`` attention on all pictures, mean over heads and middle layers, in 0..1."""
    layers = resolve_layers(LAYERS, trace.attention.shape[1])
    return trace.attention[:, layers, :, SOURCES.index("image")].mean(dim=(1, 2))
