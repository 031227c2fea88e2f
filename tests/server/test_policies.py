from __future__ import annotations

from typing import Any

import pytest

from saliency_guard import GuardPolicy
from saliency_guard.server.errors import RequestError
from saliency_guard.server.policies import policy_of, report_of
from saliency_guard.server.settings import ServerSettings


def test_a_request_may_bring_a_policy_where_the_server_has_none(settings: ServerSettings) -> None:
    assert policy_of(None, settings) is None
    policy = policy_of({"min_grounding": 0.6, "on_low": "repair", "max_retries": 1}, settings)
    assert policy == GuardPolicy(min_grounding=0.6, on_low="repair", max_retries=1)
    rules = policy_of({"rules": [{"signal": "saliency_ratio", "below": 0.6}]}, settings)
    assert rules is not None
    assert rules.rules[0].signal == "saliency_ratio"


def test_no_request_weakens_the_policy_of_the_server(settings: ServerSettings) -> None:
    strict = GuardPolicy(min_grounding=0.9, on_low="raise")
    guarded = settings.model_copy(update={"policy": strict})
    assert policy_of(None, guarded) is strict
    with pytest.raises(RequestError, match="for all requests") as raised:
        policy_of({"min_grounding": 0.0}, guarded)
    assert raised.value.code == "policy_is_set"
    open_to_others = guarded.model_copy(update={"request_policies": True})
    assert policy_of({"min_grounding": 0.5}, open_to_others) == GuardPolicy(min_grounding=0.5)


def test_a_fallback_is_a_text(settings: ServerSettings) -> None:
    policy = policy_of({"min_grounding": 0.5, "on_low": "fallback", "fallback": "I can not tell."}, settings)
    assert policy is not None
    assert policy.fallback is not None
    assert policy.fallback(None, ()) == "I can not tell."


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"min_grounding": "high"},
        {"min_grounding": 0.5, "unknown": 1},
        {"min_grounding": 0.5, "on_low": "fallback"},
        {"min_grounding": 0.5, "on_low": "fallback", "fallback": 7},
        {"min_grounding": 0.5, "fallback": "x"},
        {"min_grounding": 0.5, "calibrator": {}},
        {"min_grounding": 0.5, "guarantee": {}},
        {"min_grounding": 0.5, "before": "print"},
        {"min_grounding": 0.5, "max_retries": 9},
        {"rules": [{"signal": "saliency_ratio", "below": 0.6}] * 33},
        {"rules": [{"signal": "no such signal", "below": 0.6}]},
        {"rules": 7},
        {"min_grounding": 0.5, "retry": {"temperature": -1}, "max_retries": 1},
    ],
)
def test_wrong_policies_are_refused(settings: ServerSettings, wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as raised:
        policy_of(wrong, settings)
    assert raised.value.param == "grounding_policy"


def test_refused_texts_are_shown_only_where_the_server_shows_them(settings: ServerSettings) -> None:
    assert report_of(None, settings) == "summary"
    assert report_of("tokens", settings) == "tokens"
    with pytest.raises(RequestError, match="refused answers"):
        report_of("full", settings)
    assert report_of("full", settings.model_copy(update={"report": "full"})) == "full"
