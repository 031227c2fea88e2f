"""What a retry changes."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import ratios

from saliency_guard import ConfigError, LocoREConfig, RetryPlan, SGRSConfig, TokenGrounding
from saliency_guard.guard.retry import Try, retry, weak_words

MESSAGES = [{"role": "user", "content": [{"type": "image", "image": "x.png"}, {"type": "text", "text": "What?"}]}]


def planned(plan: RetryPlan, number: int, generation: dict[str, Any] | None = None, **values: Any) -> Try:
    return retry(plan, number, messages=MESSAGES, generation=generation or {}, seed=7, last=values.get("last"))


def test_the_first_attempt_is_as_asked_for() -> None:
    first = planned(RetryPlan(), 0, {"temperature": 0.0, "stop": ("x",)})
    assert first.messages is MESSAGES
    assert first.generation == {"temperature": 0.0, "stop": ("x",), "seed": 7}
    assert first.change == ""


def test_a_new_seed_comes_with_a_temperature_under_which_it_matters() -> None:
    second = planned(RetryPlan(temperature=0.7), 2, {"temperature": 0.0})
    assert (second.generation["seed"], second.generation["temperature"]) == (9, 0.7)
    assert planned(RetryPlan(temperature=0.7), 1, {"temperature": 1.2}).generation["temperature"] == 1.2
    assert "seed 9" in second.change


def test_the_guard_may_get_stricter_where_it_is_on() -> None:
    plan = RetryPlan(alpha_step=0.1, beta_step=0.05, new_seed=False)
    second = planned(plan, 2, {"sgrs": SGRSConfig(alpha=0.6)})
    assert abs(second.generation["sgrs"].alpha - 0.8) < 1e-9
    assert abs(second.generation["locore"].beta - (LocoREConfig().beta + 0.1)) < 1e-9
    off = planned(plan, 2, {"sgrs": None, "locore": None})
    assert off.generation["sgrs"] is None
    assert off.generation["locore"] is None
    assert planned(RetryPlan(alpha_step=0.3), 5).generation["sgrs"].alpha == 0.99


def test_greedy_attempts_that_differ_by_their_seed_alone_repeat_themselves() -> None:
    plan = RetryPlan(new_seed=False)
    assert planned(plan, 0).repeats == planned(plan, 1).repeats
    drawn = RetryPlan()
    assert planned(drawn, 1).repeats != planned(drawn, 2).repeats
    stricter = RetryPlan(new_seed=False, alpha_step=0.1)
    assert planned(stricter, 0).repeats != planned(stricter, 1).repeats


def test_weak_words_are_named_once_and_whole() -> None:
    weak = ratios(1.0, 1.0)
    pieces = [(" app", 0.2), ("le", None), (" and", None), (" cat", 0.9), (",", None), (" apple", 0.1), (".", None)]
    tokens = tuple(
        TokenGrounding(text=text, token_id=1, position=at, logprob=0.0, saliency=None, grounding=grounding)
        for at, (text, grounding) in enumerate(pieces)
    )
    weak = weak.model_copy(update={"tokens": tokens, "text": "".join(text for text, _ in pieces)})
    assert weak_words(weak, 0.5) == ["apple"]
    asked = planned(RetryPlan(name_spans=True, new_seed=False), 1, last=weak)
    assert asked.messages[0]["content"][-1]["text"].endswith("Check these words: apple.")
    assert MESSAGES[0]["content"] == asked.messages[0]["content"][:-1]
    assert planned(RetryPlan(name_spans=True, new_seed=False), 1, last=ratios(1.0)).messages is MESSAGES


def test_a_word_whose_grounding_is_no_number_is_weak() -> None:
    answer = ratios(1.0, 1.0)
    good, bad = answer.tokens
    spoilt = (good.model_copy(update={"grounding": 0.9}), bad.model_copy(update={"grounding": float("nan")}))
    assert weak_words(answer.model_copy(update={"tokens": spoilt}), 0.5) == ["cat"]


@pytest.mark.parametrize("name", ["temperature", "alpha_step", "beta_step", "weak"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
def test_a_plan_in_numbers_that_are_none_is_refused(name: str, wrong: float) -> None:
    with pytest.raises(ConfigError, match=name):
        RetryPlan(**{name: wrong})


@pytest.mark.parametrize("wrong", [1e-40, 1e-300, 1e-5])
def test_a_temperature_that_overflows_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match=r"must be 0 .greedy., or 0.001 or more"):
        RetryPlan(temperature=wrong)
