"""Shares of the sources."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard.chat.layout import PromptLayout, Span
from saliency_guard.saliency.shares import row_shares


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**20))
def test_shares_sum_to_one(images: int, rows: int, seed: int) -> None:
    layout = PromptLayout(4 * images + 2, tuple(Span(f"image_{k}", 4 * k, 4 * k + 3) for k in range(images)))
    values = torch.rand(rows, layout.length + rows, generator=torch.Generator().manual_seed(seed)) + 1e-3
    shares = row_shares(values, layout)
    torch.testing.assert_close(sum(shares.values()), torch.ones(rows))
    assert set(shares) == {*(f"image_{k}" for k in range(images)), "text", "output"}
