"""Where in the pictures a token's object is: what the token rests on, times where the picture speaks for the token.

Saliency alone (Eq. 4 and 5, arXiv 2601.20279) also marks positions that a token was predicted from for other reasons,
the logit lens (arXiv 2410.02762) also marks positions that the token does not rest on. What both mark is the object;
docs/evidence.md, "Where in the picture", has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_guard.models.lens import has_lens, token_logits
from saliency_guard.signals.trace import AnswerTrace

_PART, _PART_ALONE = 1 / 16, 1 / 2


def box_part(trace: AnswerTrace) -> float:
    """From what part of the largest value of `combined_map` on a patch belongs to the object.

    Chosen on development scenes, so that boxes are about as large as objects: a product falls off steeply.
    """
    return _PART if has_lens(trace.model) else _PART_ALONE


def word_map(trace: AnswerTrace, tokens: Sequence[int]) -> Tensor | None:
    """How far each position of the pictures speaks for a token, compared with the other positions.

    The token's logit under the logit lens, mean over `AnswerTrace.lens_layers`, softmax over the positions: a
    probability over the vocabulary is near 1 on many positions of an object and around it, the logit is largest inside.

    Args:
        trace: of the answer.
        tokens: indices of K tokens.

    Returns:
        ``[K, I]`` float32 on the CPU, each row sums to 1; None where the model has no such lens.
    """
    ids = trace.tokens[list(tokens)]
    last = len(trace.image_states) - 1
    layers: list[Tensor] = []
    with torch.no_grad():
        for depth in trace.lens_layers:
            logits = token_logits(trace.model, trace.image_states[depth], ids, normalised=depth == last)
            if logits is None:
                return None
            layers.append(logits.cpu())
    return torch.stack(layers).mean(dim=0).softmax(dim=0).T


def combined_map(trace: AnswerTrace, tokens: Sequence[int]) -> Tensor:
    """Saliency times `word_map`, scaled to sum to 1; saliency alone where there is no lens.

    Args:
        trace: of the answer.
        tokens: indices of K tokens.

    Returns:
        ``[K, I]`` float32 on the CPU, without columns where the pictures take no positions.
    """
    positions = (trace.layout.beside + trace.image_positions).to(trace.rows.device)
    looks = trace.rows[list(tokens)][:, positions].float().cpu()
    if not looks.numel():
        return looks
    words = word_map(trace, tokens)
    product = looks if words is None else looks * words
    return product / product.sum(dim=1, keepdim=True).clamp_min(torch.finfo(product.dtype).tiny)
