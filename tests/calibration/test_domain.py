"""Pictures unlike those of the calibration: rarely refused in kind, surely refused far away."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from saliency_guard import CalibrationMismatchError, InputError
from saliency_guard.calibration.domain import Cloud, Domain


def cloud(count: int, width: int, *, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width)) / np.sqrt(width)
    return rng.normal(size=(count, width)) @ mixing * 3.0 + 5.0 + shift


@pytest.mark.parametrize("width", [4, 64, 700])
def test_p_values_are_uniform_in_kind_and_small_far_away(width: int) -> None:
    domain = Cloud.fit(cloud(600, width))
    usual = np.array(domain.p_values(cloud(400, width, seed=1)))
    for level in (0.05, 0.2, 0.5):
        assert abs((usual < level).mean() - level) < 0.07
    far = np.array(domain.p_values(cloud(50, width, seed=2, shift=8.0)))
    assert (far < 0.01).all()


@given(st.integers(0, 1000), st.floats(1.0, 1e6))
@settings(max_examples=25, deadline=None)
def test_farther_out_is_never_more_usual(seed: int, factor: float) -> None:
    domain = Cloud.fit(cloud(80, 5))
    direction = np.random.default_rng(seed).normal(size=(1, 5))
    center = cloud(4000, 5).mean(axis=0)
    near, far = domain.distance(center + np.concatenate([direction, factor * direction]))
    assert far >= near - 1e-6


def test_what_is_no_number_is_as_far_out_as_can_be() -> None:
    domain = Cloud.fit(cloud(80, 3))
    assert domain.p_values(np.array([[np.nan, 0.0, 0.0], [np.inf, 0.0, 0.0]])) == [0.0, 0.0]


def test_a_domain_survives_its_file_and_damage_is_refused() -> None:
    domain = Cloud.fit(cloud(80, 6))
    again = Cloud.model_validate_json(domain.model_dump_json())
    assert again == domain
    for change in ({"mean": "!!"}, {"directions": ""}, {"size": 7}, {"rest": 0.0}, {"distances": [2.0, 1.0]}):
        with pytest.raises(ValidationError):
            Cloud.model_validate_json(json.dumps({**json.loads(domain.model_dump_json()), **change}))


def test_too_few_pictures_and_other_features_are_refused() -> None:
    with pytest.raises(InputError, match="at least 40"):
        Cloud.fit(cloud(12, 4))
    with pytest.raises(CalibrationMismatchError, match="domain features"):
        Cloud.fit(cloud(80, 4)).p_values(np.zeros((1, 5)))


def test_a_picture_may_look_usual_and_not_be_recognised() -> None:
    domain = Domain.fit(np.concatenate([cloud(400, 20), cloud(400, 4, seed=5)], axis=1), recognition=4)
    usual = np.concatenate([cloud(200, 20, seed=1), cloud(200, 4, seed=6)], axis=1)
    assert (np.array(domain.p_values(usual)) < 0.05).mean() < 0.12
    unsure = usual.copy()
    unsure[:, 20:] += 30.0
    strange = usual.copy()
    strange[:, :20] += 30.0
    for features in (unsure, strange):
        assert (np.array(domain.p_values(features)) < 0.05).all()


def test_what_a_model_does_not_show_is_left_out() -> None:
    features = np.concatenate([cloud(100, 6), np.full((100, 3), np.nan)], axis=1)
    domain = Domain.fit(features, recognition=3)
    assert domain.recognition is None
    assert len(domain.p_values(features)) == 100
