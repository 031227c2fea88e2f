"""Which guarantee of a calibration a repair stands on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from saliency_guard import ConfigError
from saliency_guard.claims.repair import RepairGuarantee, RepairKind, guarantee_for


def guarantee(risk: float, kind: RepairKind = "any", **changes: float) -> RepairGuarantee:
    fields = {"threshold": 1 - risk, "units": 100, "observed": risk / 2, "true_kept": 0.9, "emptied": 0.1} | changes
    return RepairGuarantee(kind=kind, risk=risk, confidence=0.9, **fields)


KNOWN = (guarantee(0.3), guarantee(0.1), guarantee(0.2), guarantee(0.05, "fraction"))


@pytest.mark.parametrize(("risk", "taken"), [(0.1, 0.1), (0.15, 0.1), (0.25, 0.2), (0.9, 0.3)])
def test_the_largest_risk_that_is_allowed_is_taken(risk: float, taken: float) -> None:
    assert guarantee_for(KNOWN, risk, "any").risk == taken


def test_a_risk_that_nothing_guarantees_is_refused_with_the_least_that_is() -> None:
    with pytest.raises(ConfigError, match=r"risk=0.05 of kind 'any': the lowest risk .* is 0.1"):
        guarantee_for(KNOWN, 0.05, "any")
    with pytest.raises(ConfigError, match="it has none of this kind"):
        guarantee_for(KNOWN, 0.5, "fraction_above")
    with pytest.raises(ConfigError, match="choose any, fraction, fraction_above"):
        guarantee_for(KNOWN, 0.5, "all")  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"threshold": 1.5}, {"units": 0}, {"observed": -0.1}, {"limit": float("nan")}])
def test_numbers_that_cannot_be_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        guarantee(0.1, **changes)
