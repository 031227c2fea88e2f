"""Thresholds for repairs: what they lose, what they keep, and that they hold on answers they were not tested on."""

from __future__ import annotations

import numpy as np
import pytest

from saliency_guard import ConfigError
from saliency_guard.calibration.repair_guarantee import RepairUnit, choose_repair, repair_losses
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.claims.repair import RepairKind, guarantee_for

CLAIMS = tuple(
    ExtractedClaim("object", index, index + 1, f"There is a thing {index}.", noun=f"thing {index}")
    for index in range(5)
)


def unit(truths: list[bool], probabilities: list[float]) -> RepairUnit:
    return RepairUnit(CLAIMS[: len(truths)], tuple(probabilities), tuple(truths))


def drawn(count: int, *, seed: int = 0) -> list[RepairUnit]:
    rng = np.random.default_rng(seed)
    units = []
    for _ in range(count):
        truths = [bool(rng.random() > 0.15) for _ in range(rng.integers(1, 6))]
        odds = [rng.normal(2.5 if truth else -1.0, 1.5) for truth in truths]
        units.append(unit(truths, [float(1 / (1 + np.exp(-value))) for value in odds]))
    return units


def test_losses_of_each_kind() -> None:
    units = [unit([True, False, False], [0.9, 0.8, 0.2]), unit([True, True], [0.9, 0.9]), unit([False], [0.1])]
    assert repair_losses(units, 0.5, "any", None).tolist() == [1.0, 0.0, 0.0]
    assert repair_losses(units, 0.5, "fraction", None).tolist() == [0.5, 0.0, 0.0]
    assert repair_losses(units, 0.0, "fraction", None).tolist() == [2 / 3, 0.0, 1.0]
    assert repair_losses(units, 0.0, "fraction_above", 0.7).tolist() == [0.0, 0.0, 1.0]
    assert repair_losses([unit([False], [float("nan")])], 0.0, "any", None).tolist() == [0.0]


@pytest.fixture(scope="module")
def tested() -> list[list[RepairUnit]]:
    return [drawn(300, seed=seed) for seed in range(40)]


@pytest.fixture(scope="module")
def others() -> list[RepairUnit]:
    """So many that their mean loss is the true risk."""
    return drawn(6000, seed=1000)


@pytest.mark.parametrize(("kind", "limit"), [("any", None), ("fraction", None), ("fraction_above", 0.1)])
def test_a_guarantee_holds_on_other_answers(
    kind: RepairKind, limit: float | None, tested: list[list[RepairUnit]], others: list[RepairUnit]
) -> None:
    risks: dict[float, float] = {}  # By threshold: many of the 40 are the same.
    broken = 0
    for units in tested:
        guarantee = choose_repair(units, risk=0.1, kind=kind, limit=limit, confidence=0.9)
        assert guarantee is not None
        if guarantee.threshold not in risks:
            risks[guarantee.threshold] = repair_losses(others, guarantee.threshold, kind, limit).mean()
        broken += risks[guarantee.threshold] > 0.1
        assert 0.0 < guarantee.true_kept <= 1.0
        assert 0.0 <= guarantee.emptied < 1.0
    assert broken <= 8  # One in ten may be broken; twice as many of 40 has a chance of 4 %.


def test_where_nothing_can_be_guaranteed_there_is_none() -> None:
    assert choose_repair(drawn(8), risk=0.01) is None
    assert choose_repair([], risk=0.1) is None


def test_wrong_settings_are_refused() -> None:
    for settings in ({"risk": 0.0}, {"risk": 0.1, "confidence": 1.0}, {"risk": 0.1, "limit": 0.1}):
        with pytest.raises(ConfigError):
            choose_repair(drawn(50), **settings)
    with pytest.raises(ConfigError, match="limit"):
        choose_repair(drawn(50), risk=0.1, kind="fraction_above")


def test_the_guarantee_for_a_risk_is_the_largest_below_it() -> None:
    units = drawn(800)
    guarantees = [choose_repair(units, risk=risk) for risk in (0.05, 0.1, 0.2)]
    assert guarantee_for(guarantees, 0.15, "any").risk == 0.1
    with pytest.raises(ConfigError, match="the lowest risk that its records guarantee"):
        guarantee_for(guarantees, 0.01, "any")
    with pytest.raises(ConfigError, match="none of this kind"):
        guarantee_for(guarantees, 0.1, "fraction")
    with pytest.raises(ConfigError, match="choose"):
        guarantee_for(guarantees, 0.1, "some")
