"""Layers are named by two fractions or by indices; anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest

from saliency_guard import ConfigError, SaliencyConfig


@pytest.mark.parametrize(
    ("given", "expected"),
    [((0, 1), (0.0, 1.0)), (range(2, 5), [2, 3, 4]), (np.array([1, 3]), [1, 3]), ([-1], [-1])],
)
def test_fractions_and_indices_are_taken(given: object, expected: object) -> None:
    assert SaliencyConfig(layers=given).layers == expected


@pytest.mark.parametrize("given", [(0.5,), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), [], "1,2", 3, [0.5]])
def test_anything_else_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="layers"):
        SaliencyConfig(layers=given)
