from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard import ConfigError, LocoREConfig
from saliency_guard.models.locore import gain_factors


@given(st.integers(0, 12), st.integers(1, 8), st.integers(0, 15), st.integers(0, 6), st.floats(0.01, 2))
def test_gains_are_equation_8(first: int, queries: int, output_start: int, window: int, beta: float) -> None:
    factors = gain_factors(LocoREConfig(beta=beta, window=window), first, queries, output_start)
    assert (factors is None) == (first + queries - 1 < output_start)
    if factors is None:
        return
    assert factors.shape == (queries, first + queries)
    for row in range(queries):
        query = first + row
        for key in range(first + queries):
            inside = output_start <= key <= query and query - key <= window
            assert float(factors[row, key]) == pytest.approx(1 + beta if inside else 1.0)
    assert (factors[:, :output_start] == 1).all(), "no gain before the first output token"


def test_rows_do_not_depend_on_how_many_run_together() -> None:
    config = LocoREConfig(beta=0.3, window=3)
    together = gain_factors(config, 5, 6, 6)
    for row in range(6):
        alone = gain_factors(config, 5 + row, 1, 6)
        expected = torch.ones(1, 6 + row).double() if alone is None else alone
        assert torch.equal(together[row : row + 1, : 6 + row], expected)


def test_beta_zero_is_no_gain() -> None:
    assert gain_factors(LocoREConfig(beta=0), 9, 3, 2) is None


@pytest.mark.parametrize(
    "wrong",
    [{"beta": -0.1}, {"window": -1}, {"beta": float("nan")}, {"layers": (1, 2, 3)}, {"layers": []}, {"alpha": 1}],
)
def test_wrong_settings_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LocoREConfig(**wrong)


def test_a_window_larger_than_any_number_of_positions_reaches_all() -> None:
    everything = gain_factors(LocoREConfig(window=100), 6, 3, 2)
    assert everything is not None
    reached = gain_factors(LocoREConfig(window=10**30), 6, 3, 2)
    assert reached is not None
    assert torch.equal(reached, everything)
