"""What is no model of numbers is refused before it calculates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from saliency_guard.calibration.linear import LinearModel, ProbabilityMap

GOOD: dict[str, Any] = {"median": (0.0, 1.0), "mean": (0.0, 1.0), "scale": (1.0, 2.0), "coefficient": (1.0, -1.0)}


@pytest.mark.parametrize("name", [*GOOD, "intercept"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e308, -1e308])
def test_numbers_that_are_none(name: str, wrong: float) -> None:
    values = {**GOOD, "intercept": 0.0}
    values[name] = wrong if name == "intercept" else (values[name][0], wrong)
    with pytest.raises(ValidationError, match=name):
        LinearModel(**values)


@pytest.mark.parametrize("wrong", [0.0, -1.0, 1e-300])
def test_a_scale_is_something_to_divide_by(wrong: float) -> None:
    with pytest.raises(ValidationError, match="scale"):
        LinearModel(**{**GOOD, "scale": (1.0, wrong)}, intercept=0.0)


@pytest.mark.parametrize("name", list(GOOD))
def test_lengths_agree(name: str) -> None:
    with pytest.raises(ValidationError, match="one number a feature of each kind"):
        LinearModel(**{**GOOD, name: GOOD[name][:1]}, intercept=0.0)
    with pytest.raises(ValidationError, match="one number a feature"):
        LinearModel(median=(), mean=(), scale=(), coefficient=(), intercept=0.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "isotonic"}, "points go with"),
        ({"method": "isotonic", "points": ((0.0, 0.5),)}, "at least two points"),
        ({"method": "isotonic", "points": ((1.0, 0.2), (0.0, 0.5))}, "must rise"),
        ({"method": "isotonic", "points": ((0.0, 0.2), (0.0, 0.5))}, "must rise"),
        ({"method": "isotonic", "points": ((0.0, 0.5), (1.0, 0.2))}, "must rise"),
        ({"method": "isotonic", "points": ((0.0, 0.5), (1.0, 1.2))}, "points"),
        ({"method": "isotonic", "points": ((0.0, -0.1), (1.0, 0.2))}, "points"),
        ({"method": "isotonic", "points": ((0.0, 0.1), (np.nan, 0.2))}, "points"),
        ({"method": "logistic", "points": ((0.0, 0.1), (1.0, 0.2))}, "points go with"),
        ({"method": "logistic", "slope": 2.0}, "slope and offset go with"),
        ({"method": "platt", "slope": np.nan}, "slope"),
        ({"method": "platt", "offset": np.inf}, "offset"),
    ],
)
def test_maps_that_give_no_probability(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ProbabilityMap(**values)


def test_the_largest_numbers_that_are_let_in_still_give_probabilities() -> None:
    model = LinearModel(
        median=(0.0,) * 3, mean=(-1e30,) * 3, scale=(1e-30,) * 3, coefficient=(1e30,) * 3, intercept=-1e30
    )
    odds = model.log_odds(np.array([[1e38, np.nan, -1e38], [0.0, 0.0, 0.0]]))
    assert np.isfinite(odds).all()
    for scale in (-1e30, 1e30):
        found = ProbabilityMap(method="platt", slope=scale, offset=scale).probability(odds)
        assert ((found >= 0) & (found <= 1)).all()
