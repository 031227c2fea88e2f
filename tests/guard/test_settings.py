"""Settings of a policy: what fits together, and what is no longer called that."""

from __future__ import annotations

from typing import Any

import pytest
from tenacity import stop_never, wait_fixed

from saliency_guard import ConfigError, GuardPolicy, RetryPlan, SignalRule


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "min_grounding or at least one rule"),
        ({"min_grounding": 1.5}, "min_grounding"),
        ({"min_grounding": 0.5, "max_retries": -1}, "max_retries"),
        ({"min_grounding": 0.5, "max_retries": None}, "max_retries"),
        ({"min_grounding": 0.5, "on_low": "ignore"}, "on_low"),
        ({"min_grounding": 0.5, "unscored": "ignore"}, "unscored"),
        ({"min_grounding": 0.5, "deadline": 0}, "deadline"),
        ({"min_grounding": 0.5, "deadline": float("inf")}, "deadline"),
        ({"min_grounding": 0.5, "deadline": float("nan")}, "deadline"),
        ({"min_grounding": 0.5, "retrys": 2}, "retrys"),
        ({"min_grounding": 0.5, "stop": 3}, "stop"),
        ({"min_grounding": 0.5, "stop": stop_never}, "max_retries=0 makes no retries for stop"),
        ({"min_grounding": 0.5, "wait": wait_fixed(1)}, "max_retries=0 makes no retries for wait"),
        ({"min_grounding": 0.5, "max_retries": 2, "retry": RetryPlan(new_seed=False)}, "changes nothing"),
        ({"min_grounding": 0.5, "fallback": lambda *_: ""}, 'on_low="flag" never calls the fallback'),
        ({"min_grounding": 0.5, "on_low": "retry"}, r'max_retries=2 .*on_low="flag"'),
        ({"min_grounding": 0.5, "promise": None}, "promise is called guarantee"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GuardPolicy(**values)


def test_a_policy_without_actions_only_reports() -> None:
    strict = GuardPolicy(min_grounding=0.5, on_low="raise", unscored="raise")
    assert (strict.without_actions().on_low, strict.without_actions().unscored) == ("flag", "flag")
    lenient = GuardPolicy(min_grounding=0.5, on_low="repair", unscored="pass")
    assert lenient.without_actions() == GuardPolicy(min_grounding=0.5, unscored="pass")
    assert lenient.on_low == "repair"


def test_there_are_no_retries_unless_they_are_asked_for() -> None:
    policy = GuardPolicy(min_grounding=0.5)
    assert (policy.max_retries, policy.on_low, policy.unscored) == (0, "flag", "flag")


def test_signals_of_all_rules_are_named_once() -> None:
    rules = (SignalRule("entropy", above=1.0), SignalRule("logprob", below=-5.0), SignalRule("entropy", below=0.0))
    assert GuardPolicy(rules=rules).signals == ("entropy",)
