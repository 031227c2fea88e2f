"""Monitoring a guarantee: quiet while it holds, an alarm when it does not."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from saliency_guard import ConfigError, RiskMonitor


def alarm_at(risk: float, rate: float, labels: int, seed: int, level: float = 0.1) -> int | None:
    monitor = RiskMonitor(risk, level)
    wrong = np.random.default_rng(seed).random(labels) < rate
    return next((at for at, one in enumerate(wrong) if monitor.update(grounded=not one)), None)


def test_false_alarms_stay_within_the_level_however_long_one_watches() -> None:
    alarms = sum(alarm_at(0.05, 0.05, 3000, seed) is not None for seed in range(200))
    # At most 10 % in expectation; 31 of 200 would be three standard deviations more.
    assert alarms <= 31


def test_a_broken_guarantee_is_found() -> None:
    found = [alarm_at(0.05, 0.15, 3000, seed) for seed in range(30)]
    assert None not in found
    assert np.median(found) < 200


def test_the_alarm_stays_and_the_labels_are_counted() -> None:
    monitor = RiskMonitor(0.05)
    assert monitor.observed is None
    for _ in range(40):
        monitor.update(grounded=False)
    assert monitor.alarm
    for _ in range(500):
        assert monitor.update(grounded=True)
    assert (monitor.seen, monitor.ungrounded) == (540, 40)
    assert monitor.observed == pytest.approx(40 / 540)


@pytest.mark.parametrize("values", [{"risk": 0.0}, {"risk": 1.0}, {"risk": 0.1, "level": 0.0}])
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="is not between 0 and 1"):
        RiskMonitor(**values)


def test_a_copy_goes_on_by_itself() -> None:
    monitor = RiskMonitor(0.1)
    for _ in range(5):
        monitor.update(grounded=False)
    for again in (copy.copy(monitor), copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):  # noqa: S301
        assert again == monitor
        again.update(grounded=False)
        assert (again.seen, monitor.seen) == (6, 5)
