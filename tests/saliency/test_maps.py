"""The full map of a token against the brute-force oracle."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch

from saliency_guard import SaliencyConfig, saliency_map


@pytest.mark.parametrize("normalization", ["row", "matrix"])
@pytest.mark.parametrize("target", [0, 3, -1])
def test_full_map_agrees_with_brute_force(case: tiny.Case, normalization: str, target: int) -> None:
    config = SaliencyConfig(layers=(0.0, 1.0), normalization=normalization)
    maps = saliency_map(case.model, case.inputs, tiny.ANSWER, target, config=config)
    index = target % len(tiny.ANSWER)
    attention, gradient, _ = oracle.token_maps(case.model, case.inputs, tiny.ANSWER, index)
    product = (attention * gradient).abs().tril()
    mean = product.mean(1)
    norm = mean.flatten(1).norm(dim=1)[:, None, None] if normalization == "matrix" else mean.norm(dim=-1, keepdim=True)
    scale = float(product.max())
    torch.testing.assert_close(maps.saliency, product, rtol=1e-3, atol=1e-5 * scale)
    if normalization == "matrix":
        torch.testing.assert_close(maps.normalized, mean / norm, rtol=1e-3, atol=1e-5)
    else:  # A row without saliency stays zero instead of 0 / 0.
        torch.testing.assert_close(maps.normalized[:, -1], (mean / norm)[:, -1], rtol=1e-3, atol=1e-5)
    # The oracle's gradient has entries where nothing is attended to; the product is what counts.
    seen = attention > 0
    torch.testing.assert_close(
        maps.gradient[seen], gradient[seen], rtol=1e-3, atol=1e-5 * float(gradient[seen].abs().max())
    )
