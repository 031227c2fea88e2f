"""Dispersion of attention: by hand on small grids, and of a traced answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from saliency_guard.signals.ads import LAYERS, _dispersion, ads
from saliency_guard.signals.trace import AnswerTrace


def dispersion(trace: AnswerTrace, maps: torch.Tensor) -> list[float]:
    """Of given attention ``[N, I]``, the same in all layers."""
    given = replace(trace)
    given.__dict__["looks"] = maps[:, None].expand(-1, trace.attention.shape[1], -1)
    return ads(given).tolist()


def test_of_two_by_two_patches_one_is_a_sink(trace: AnswerTrace) -> None:
    # A tenth of four patches is one, a single patch is no blob: what counts is the entropy of all four.
    count, pictures = len(trace.tokens), len(trace.layout.picture_owners) // 4
    maps = torch.tensor([[0.4, 0.3, 0.2, 0.1] * pictures] * count)
    expected = 1.0 - sum(p * math.log(p) for p in (0.4, 0.3, 0.2, 0.1)) / math.log(4)
    assert dispersion(trace, maps) == pytest.approx([expected] * count, abs=1e-5)
    assert dispersion(trace, torch.full((count, 4 * pictures), 0.25)) == pytest.approx([2.0] * count, abs=1e-5)


def test_a_blob_is_no_dispersion_and_a_sink_is() -> None:
    attention = torch.full((5, 5), 0.1 / 22, dtype=torch.double)
    blob, sinks = attention.clone(), attention.clone()
    blob[1, 1:4] = 0.3
    sinks[0, 0] = sinks[2, 3] = sinks[4, 1] = 0.3
    # The three marked patches touch: what is left of the attention is 0.1, and lies evenly.
    assert _dispersion(blob) == pytest.approx(0.1 + 1.0)
    shares = [0.3] * 3 + [0.1 / 22] * 22
    assert _dispersion(sinks) == pytest.approx(1.0 - sum(p * math.log(p) for p in shares) / math.log(25))


def test_it_is_of_the_middle_layers_and_of_the_picture_with_least(trace: AnswerTrace) -> None:
    layers = trace.attention.shape[1]
    first, stop = math.floor(LAYERS[0] * layers), math.ceil(LAYERS[1] * layers)
    looks = trace.looks[:, first:stop].double().mean(1)
    expected = []
    for row in looks:
        values = []
        for picture in row.split(4):
            shares = (picture / picture.sum()).tolist()
            values.append(1.0 - sum(p * math.log(p) for p in shares) / math.log(4))
        expected.append(min(values))
    assert ads(trace).tolist() == pytest.approx(expected, abs=1e-5)
