from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard import ConfigError, SGRSConfig
from saliency_guard.decoding.draft_length import draft_length
from saliency_guard.decoding.sampling import draw, sample, uniform
from saliency_guard.decoding.sgrs import candidates, threshold

SCORES = st.lists(st.floats(-20, 20), min_size=2, max_size=12).map(torch.tensor)


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(1, 6), st.floats(0.05, 0.95))
def test_threshold_is_equation_7(history: list[float], window: int, alpha: float) -> None:
    limit = threshold(SGRSConfig(window=window, alpha=alpha), history)
    recent = history[max(0, len(history) - window) :]
    assert limit == pytest.approx(alpha * (sum(recent) / len(recent)) if recent else 0.0)
    if recent:
        assert limit <= max(recent)


@given(SCORES, st.integers(1, 15))
def test_candidates_are_the_most_probable_in_order(scores: torch.Tensor, top_k: int) -> None:
    chosen = candidates(scores, top_k)
    assert len(chosen) == min(top_k, len(scores)) == len(set(chosen))
    values = scores[chosen].tolist()
    assert values == sorted(values, reverse=True)
    assert values == sorted(scores.tolist(), reverse=True)[: len(chosen)]


def test_tokens_that_are_ruled_out_are_no_candidates() -> None:
    assert candidates(torch.tensor([1.0, -torch.inf, 3.0]), 5) == [2, 0]


@given(SCORES, st.floats(0, 1, exclude_max=True))
def test_draw_takes_one_that_is_left(scores: torch.Tensor, number: float) -> None:
    among = candidates(scores, 4)
    assert draw(scores, among, None) == among[0]
    assert draw(scores, among, number) in among
    assert len(among) > 1
    assert draw(scores, among[1:], number) in among[1:]


@given(SCORES, st.floats(0.001, 0.999))
def test_min_p_is_a_part_of_the_highest_probability(scores: torch.Tensor, min_p: float) -> None:
    probabilities = scores.double().softmax(-1)
    chosen = candidates(scores.double(), 12, min_p)
    assert probabilities[chosen[0]] == probabilities.max()
    for token in range(len(scores)):
        ratio = float(probabilities[token] / probabilities.max())
        if abs(ratio - min_p) > 1e-6:
            assert (token in chosen) == (ratio > min_p)


def test_draw_and_sample_have_the_softmax_distribution() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, -1.0])
    numbers = [(k + 0.5) / 10_000 for k in range(10_000)]
    for picked, expected in (
        ([draw(scores, [2, 1], n) for n in numbers], {2: 0.73106, 1: 0.26894}),
        ([sample(scores, n) for n in numbers], dict(enumerate(scores.softmax(-1).tolist()))),
    ):
        for token, probability in expected.items():
            assert picked.count(token) / len(numbers) == pytest.approx(probability, abs=2e-4)


@given(st.integers(), st.integers(0, 5000), st.integers(0, 9))
def test_random_numbers_depend_on_seed_position_and_round_alone(seed: int, position: int, round_: int) -> None:
    number = uniform(seed, position, round_)
    assert 0 <= number < 1
    assert uniform(seed, position, round_) == number
    assert uniform(seed, position, round_ + 1) != number
    assert uniform(seed, position + 1, round_) != number
    assert uniform(seed + 1, position, round_) != number


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0},
        {"alpha": 1.0},
        {"top_k": 0},
        {"max_resamples": 0},
        {"window": 0},
        {"min_p": 1.0},
        {"draft_length": 0},
        {"beta": 1},
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SGRSConfig(**wrong)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SGRSConfig().alpha = 0.5


@given(st.integers(0, 200), st.integers(0, 200))
def test_more_rejections_never_make_drafts_longer(fewer: int, added: int) -> None:
    config = SGRSConfig()
    before = draft_length(config, fewer, 400)
    after = draft_length(config, fewer + added, 400)
    assert 1 <= after <= before <= 32


def test_drafts_follow_the_rejection_rate() -> None:
    config = SGRSConfig()
    assert draft_length(config, 0, 500) > draft_length(config, 25, 500) > draft_length(config, 100, 500)
    assert draft_length(config, 400, 500) == 1
    assert draft_length(SGRSConfig(draft_length=7), 400, 500) == 7
