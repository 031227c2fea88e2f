"""Similarity of the token's state with the patches that are most like it, layer by layer.

Source: cross-modal grounding consistency, arXiv 2604.04863, which gives all layers to a classifier; here the mean over
the layers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from saliency_guard.signals.trace import AnswerTrace

TOP = 5


def cgc(trace: AnswerTrace) -> Tensor:
    """``[N]`` cosine similarity in -1..1, mean over the most similar patches and over layers; NaN without image."""
    if len(trace.image_positions) == 0 or len(trace.image_states) != len(trace.output_states):
        return torch.full_like(trace.scores.logprobs, torch.nan)
    layers = []
    for output, image in zip(trace.output_states[1:], trace.image_states[1:], strict=True):
        similar = functional.normalize(output[1:].float(), dim=-1) @ functional.normalize(image.float(), dim=-1).T
        layers.append(similar.topk(min(TOP, similar.shape[1]), dim=1).values.mean(dim=1))
    return torch.stack(layers).mean(dim=0)
