"""Settings are strict, and wrong ones are errors that say what is wrong."""

from __future__ import annotations

import pytest

from saliency_guard import ConfigError, LocoREConfig, SaliencyConfig, SGRSConfig
from saliency_guard.settings import MAX_SECONDS, require, require_between, seconds


def test_a_wrong_value_is_named_with_its_setting() -> None:
    with pytest.raises(ConfigError, match=r"SGRSConfig: alpha: .*got 'much'"):
        SGRSConfig(alpha="much")
    with pytest.raises(ConfigError, match=r"LocoREConfig: gamma: "):
        LocoREConfig(gamma=1.0)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SGRSConfig().alpha = 0.1


def test_settings_of_another_kind_are_refused() -> None:
    require(SGRSConfig, None, SGRSConfig())
    for wrong in (SaliencyConfig(), {"alpha": 0.5}):
        with pytest.raises(ConfigError, match="expected SGRSConfig"):
            require(SGRSConfig, wrong)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), MAX_SECONDS * 2, True, "5"])
def test_times_that_nobody_can_wait_for_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="timeout must be a number of seconds above 0"):
        seconds("timeout", value)


def test_times_are_numbers_or_none() -> None:
    assert seconds("timeout", None) is None
    assert seconds("timeout", 5) == 5.0


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_what_is_not_between_0_and_1_is_named(value: float) -> None:
    require_between(risk=0.5, confidence=0.999)
    with pytest.raises(ConfigError, match=f"confidence={value} is not between 0 and 1"):
        require_between(risk=0.5, confidence=value)
