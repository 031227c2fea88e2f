"""What part of a row of saliency lies on each source: pictures, texts, the answer itself."""

from __future__ import annotations

import math

from torch import Tensor

from saliency_guard.chat.layout import PromptLayout


def row_shares(rows: Tensor, layout: PromptLayout) -> dict[str, Tensor]:
    """What part of each row lies on each source, ``[n]`` per source; they sum to 1 (NaN for a row of zeros)."""
    masks = layout.masks(rows.shape[1]).to(rows)
    parts = rows @ masks.T
    shares = parts / parts.sum(dim=-1, keepdim=True)
    return {name: shares[:, index] for index, name in enumerate(layout.sources)}


def plain_shares(shares: dict[str, float]) -> dict[str, float]:
    """A token's shares, or none where its row is all zeros and there is nothing to share out."""
    return {} if any(math.isnan(share) for share in shares.values()) else shares
