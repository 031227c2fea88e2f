"""Defaults that the command line shows as text are those of the settings."""

from __future__ import annotations

from typing import get_args

import pytest

from saliency_guard import LocoREConfig, RetryPlan, SGRSConfig
from saliency_guard.cli import options
from saliency_guard.errors import ConfigError
from saliency_guard.evaluation import labelling
from saliency_guard.scenes import language


@pytest.mark.parametrize(
    ("option", "default"),
    [
        (options.Alpha, SGRSConfig().alpha),
        (options.MinP, SGRSConfig().min_p),
        (options.Beta, LocoREConfig().beta),
    ],
)
def test_the_defaults_that_help_shows_hold(option: object, default: float) -> None:
    assert float(get_args(option)[1].show_default) == default


def test_copied_constants_are_the_originals() -> None:
    assert RetryPlan().temperature == options.RETRY_TEMPERATURE
    assert options.MAX_NEW_TOKENS == labelling.MAX_NEW_TOKENS
    assert options.DESCRIBE == language.DESCRIBE


def test_switches_give_the_settings_of_the_paper() -> None:
    assert options.sgrs_settings(on=True, alpha=None, min_p=None) == SGRSConfig()
    assert options.sgrs_settings(on=True, alpha=0.3, min_p=0.5) == SGRSConfig(alpha=0.3, min_p=0.5)
    assert options.locore_settings(on=True, beta=None) == LocoREConfig()
    assert options.locore_settings(on=True, beta=0.4) == LocoREConfig(beta=0.4)
    assert options.sgrs_settings(on=False, alpha=None, min_p=None) is None
    assert options.locore_settings(on=False, beta=None) is None


def test_a_setting_without_its_switch_is_refused() -> None:
    with pytest.raises(ConfigError, match="--min-p has no effect without --sgrs"):
        options.sgrs_settings(on=False, alpha=None, min_p=0.5)
    with pytest.raises(ConfigError, match="--beta has no effect without --locore"):
        options.locore_settings(on=False, beta=0.15)
