"""Options that name an engine."""

from __future__ import annotations

import pytest

from saliency_guard import ConfigError
from saliency_guard.cli.engines import engine_named
from saliency_guard.embedded import EMBEDDED
from saliency_guard.engines.engine import LocalEngine


def test_the_local_engine_loads_the_model() -> None:
    with engine_named("local", EMBEDDED) as engine:
        assert isinstance(engine, LocalEngine)
        assert engine.lvlm.model_id == "saliency-guard/embedded"


def test_a_cluster_is_started_only_when_it_is_entered() -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from saliency_guard.engines.ray_engine import RayEngine

    assert isinstance(engine_named("ray", EMBEDDED, workers=2, num_gpus=0.5), RayEngine)


def test_options_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="no engine 'dask'"):
        engine_named("dask", EMBEDDED)
    for option in ({"workers": 2}, {"num_gpus": 1.0}, {"address": "auto"}):
        with pytest.raises(ConfigError, match="no effect without --engine ray"):
            engine_named("local", EMBEDDED, **option)
