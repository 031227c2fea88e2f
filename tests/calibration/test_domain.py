"""Pictures unlike those of the calibration: rarely refused in kind, surely refused far away."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from saliency_guard import CalibrationMismatchError, InputError
from saliency_guard.calibration.domain import Change, Cloud, Domain, Surety, fisher


def cloud(count: int, width: int, *, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width)) / np.sqrt(width)
    return rng.normal(size=(count, width)) @ mixing * 3.0 + 5.0 + shift


def pictures(
    count: int, looks: int, signs: int, *, seeds: tuple[int, int] = (0, 5), changing: float = 0.0
) -> np.ndarray:
    """``[count, looks + signs + 1]``: features, signs of recognition, and how much changes in a mirror."""
    changes = np.random.default_rng(seeds[1] + 50).gamma(2.0, size=(count, 1)) + changing
    return np.concatenate([cloud(count, looks, seed=seeds[0]), cloud(count, signs, seed=seeds[1]), changes], axis=1)


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
    domain = Domain.fit(pictures(400, 20, 4), recognition=4)
    usual = pictures(200, 20, 4, seeds=(1, 6))
    assert (np.array(domain.p_values(usual)) < 0.05).mean() < 0.12
    unsure = usual.copy()
    unsure[:, 20:24] += 30.0
    strange = usual.copy()
    strange[:, :20] += 30.0
    changing = usual.copy()
    changing[:, 24] += 30.0
    unknown = usual.copy()
    unknown[:, 24] = np.nan
    for features in (unsure, strange, changing, unknown):
        assert (np.array(domain.p_values(features)) < 0.05).all()


def test_what_a_model_does_not_show_is_left_out() -> None:
    features = pictures(100, 6, 3)
    features[:, 9] = np.nan
    domain = Domain.fit(features, recognition=3)
    assert domain.change is None
    assert domain.recognition is not None
    assert len(domain.p_values(features)) == 100
    features[:, 6:] = np.nan
    domain = Domain.fit(features, recognition=3)
    assert domain.recognition is None
    assert domain.change is None
    assert len(domain.p_values(features)) == 100


def test_what_changes_little_is_usual_and_what_changes_much_is_not() -> None:
    change = Change.fit(np.arange(99.0))
    assert change is not None
    assert change.p_values(np.array([0.0, 49.0, 98.0, 99.0])) == pytest.approx([1.0, 0.51, 0.02, 0.01])
    assert change.p_values(np.array([np.nan, np.inf])) == [0.0, 0.0]
    assert Change.fit(np.array([1.0, np.nan])) is None
    assert Change.fit(np.empty(0)) is None
    assert Change.model_validate_json(change.model_dump_json()) == change
    for changes in ([], [2.0, 1.0]):
        with pytest.raises(ValidationError):
            Change.model_validate_json(json.dumps({"changes": changes}))


def answers(count: int, *, seed: int, sure: float = 4.0) -> list[np.ndarray]:
    """Verified log-odds of the claims of answers, of either sign."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(sure, 1.0, size=size) * rng.choice([-1.0, 1.0], size=size) for size in rng.integers(1, 6, size=count)
    ]


@pytest.fixture(scope="module")
def judged() -> Domain:
    return Domain.fit(
        pictures(800, 20, 4), recognition=4, answers=[([row], odds) for row, odds in enumerate(answers(800, seed=1))]
    )


def refused(domain: Domain, *, sure: float = 4.0, recognised: float = 0.0, changing: float = 0.0) -> float:
    features = pictures(600, 20, 4, seeds=(2, 6), changing=changing)
    features[:, 20:24] += recognised
    return float(
        np.mean(
            [
                domain.p_values(features[row : row + 1], odds)[0] < 0.05
                for row, odds in enumerate(answers(600, seed=3, sure=sure))
            ]
        )
    )


def test_who_is_unsure_of_its_claims_is_refused_and_others_as_rarely_as_the_level_says(judged: Domain) -> None:
    assert refused(judged) < 0.08
    assert refused(judged, sure=1.0) > 0.4


def test_weak_signs_add_up(judged: Domain) -> None:
    alone = max(refused(judged, sure=2.8), refused(judged, recognised=0.8))
    assert refused(judged, sure=2.8, recognised=0.8) > alone + 0.05
    alone = max(refused(judged, sure=2.8), refused(judged, changing=2.0))
    assert refused(judged, sure=2.8, changing=2.0) > alone + 0.05


def test_a_false_claim_that_is_surely_false_is_no_strange_picture(judged: Domain) -> None:
    features = np.concatenate([cloud(1, 20, seed=2), cloud(4000, 4, seed=5).mean(0, keepdims=True), [[2.0]]], axis=1)
    for sign in (1.0, -1.0):
        assert judged.p_values(features, np.array([sign * 6.0]))[0] > 0.2
    assert judged.p_values(features, np.array([0.1]))[0] < 0.2
    # What was not verified says nothing.
    assert judged.p_values(features, np.array([np.nan])) == judged.p_values(features)


def test_a_sign_that_is_not_known_is_never_a_usual_one(judged: Domain) -> None:
    usual = pictures(1, 20, 4, seeds=(2, 6))
    for column in (0, 20, 24):
        unknown = usual.copy()
        unknown[0, column] = np.nan
        assert judged.p_values(unknown, np.array([6.0])) == [0.0]
        assert judged.p_values(unknown) == [0.0]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_fisher_s_p_value_is_that_of_the_chi_squared_distribution(count: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(count).random(count)
    expected = stats.combine_pvalues(values, method="fisher").pvalue
    assert fisher(values) == pytest.approx(expected)


def test_surety_survives_its_file_and_damage_is_refused(judged: Domain) -> None:
    assert Domain.model_validate_json(judged.model_dump_json()) == judged
    assert judged.surety is not None
    assert all(0 < len(group) <= 1000 for group in judged.surety.joined)
    plain = json.loads(judged.surety.model_dump_json())
    for change in (
        {"joined": []},
        {"joined": [[2.0, 1.0]] * 3},
        {"sure": plain["sure"][:2]},
        {"sure": [[], [1.0], [1.0]]},
    ):
        with pytest.raises(ValidationError):
            Surety.model_validate_json(json.dumps({**plain, **change}))


def test_without_answers_enough_surety_is_left_out() -> None:
    features = pictures(100, 6, 3)
    few = Domain.fit(features, recognition=3, answers=[([row], np.array([3.0])) for row in range(20)])
    assert few.surety is None
    assert few.p_values(features[:1], np.array([0.0])) == few.p_values(features[:1])
