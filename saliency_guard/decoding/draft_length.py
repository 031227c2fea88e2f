"""How many tokens to draft before they are scored together: what it costs, never which tokens are written."""

from __future__ import annotations

from saliency_guard.decoding.sgrs import SGRSConfig

UNGUARDED_DRAFT = 16
"""Tokens scored together where nothing can be rejected."""

_LONGEST_DRAFT = 32
_PRIOR_REJECTIONS, _PRIOR_TOKENS = 0.25, 8.0
# In units of one step of plain decoding, as measured by `saliency-guard bench speed`.
_CHUNK, _CHUNK_ROW, _RESAMPLE = 1.0, 0.08, 1.2
_SINGLE, _SINGLE_RESAMPLE = 0.6, 0.6


def draft_length(config: SGRSConfig, rejections: int, tokens: int) -> int:
    """How many tokens to draft: what is cheapest per token at the rejection rate seen so far.

    A draft of n tokens costs n steps and a scored chunk, and is lost from the first rejection on.

    Args:
        config: a fixed ``draft_length`` is returned as it is.
        rejections: positions so far at which the first draw was rejected.
        tokens: positions so far.
    """
    if config.draft_length != "auto":
        return config.draft_length
    rate = (rejections + _PRIOR_REJECTIONS) / (tokens + _PRIOR_TOKENS)

    def cost(length: int) -> float:
        if length == 1:
            return 1 + _SINGLE + rate * _SINGLE_RESAMPLE
        hit = 1 - (1 - rate) ** length
        return (length * (1 + _CHUNK_ROW) + _CHUNK + hit * _RESAMPLE) / (hit / rate)

    return min(range(1, _LONGEST_DRAFT + 1), key=cost)
