"""A refused answer without the claims that do not hold, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from saliency_guard import LVLM, ConfigError, GroundedAnswer, GuardPolicy, SignalRule
from saliency_guard.chat.messages import chat
from saliency_guard.guard.decision import decide, judge
from saliency_guard.guard.repair import repair
from saliency_guard.scenes.language import DESCRIBE


def claims(answer: GroundedAnswer, groundings: Sequence[float | None]) -> GroundedAnswer:
    judged = [
        claim.model_copy(update={"grounding": grounding})
        for claim, grounding in zip(answer.claims, groundings, strict=True)
    ]
    return answer.model_copy(update={"claims": tuple(judged), "grounding": 0.1, "calibrated": True})


def test_a_refused_answer_is_repaired(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    scored_answer = lvlm.score(messages, "The image shows a dog and a cat.")
    policy = GuardPolicy(min_grounding=0.5, on_low="repair")
    outcome = decide(policy, (judge(policy, claims(scored_answer, [0.9, 0.1])),))
    assert (outcome.decision, outcome.text, outcome.passes) == ("repaired", "The image shows a dog.", True)
    assert [claim.text for claim in outcome.repaired.dropped] == ["cat"]
    assert not outcome.accepted
    nothing = decide(policy, (judge(policy, claims(scored_answer, [0.1, 0.1])),))
    assert (nothing.decision, nothing.text, nothing.passes) == ("repaired", "", False)
    assert "nothing is left" in nothing.reason


def test_where_nothing_is_left_the_fallback_is_asked(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    policy = GuardPolicy(min_grounding=0.5, on_low="repair", fallback=lambda *_: "I cannot say.")
    answer = lvlm.score(messages, "The image shows a dog and a cat.")
    outcome = decide(policy, (judge(policy, claims(answer, [0.1, 0.1])),), messages)
    assert (outcome.decision, outcome.text, outcome.repaired) == ("fallback", "I cannot say.", None)


def test_an_answer_whose_claims_were_not_judged_is_flagged_not_repaired(
    lvlm: LVLM, messages: list[dict[str, Any]]
) -> None:
    policy = GuardPolicy(min_grounding=0.5, on_low="repair")
    answer = claims(lvlm.score(messages, "The image shows a dog and a cat."), [0.9, None])
    outcome = decide(policy, (judge(policy, answer),))
    assert (outcome.decision, outcome.passes) == ("flagged", False)
    assert "cannot be repaired" in outcome.reason


def test_the_policys_risk_sets_the_threshold(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    answer = claims(lvlm.score(messages, "The image shows a dog and a cat."), [0.9, 0.0])
    policy = GuardPolicy(min_grounding=0.5, on_low="repair", repair_risk=0.2, repair_kind="fraction")
    repaired, reason = repair(policy, answer)
    assert repaired == answer.repaired(risk=0.2, kind="fraction")
    assert repaired.guarantee.kind == "fraction"
    assert (reason is None) == bool(repaired.text)
    with pytest.raises(ConfigError, match=r"has no repair with risk=0\.0001"):
        repair(policy.model_copy(update={"repair_risk": 0.0001}), answer)


def test_an_answer_of_which_no_claim_is_below_the_threshold_is_flagged(lvlm: LVLM) -> None:
    """All of it is less sure than each part of it: there is nothing to leave out, and it is no repair."""
    messages = chat("examples/desk.png", DESCRIBE)
    answer = lvlm.generate(messages)
    least = min(claim.grounding for claim in answer.claims if claim.grounding is not None)
    assert answer.grounding is not None
    assert answer.grounding < least
    policy = GuardPolicy(min_grounding=(answer.grounding + least) / 2, on_low="repair")
    outcome = policy.run(lvlm, messages)
    assert (outcome.decision, outcome.text, outcome.passes) == ("flagged", answer.text, False)
    assert "nothing was left out" in (outcome.reason or "")


def test_settings_of_repairs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs min_grounding"):
        GuardPolicy(rules=(SignalRule("logprob", below=-1.0),), on_low="repair")
    with pytest.raises(ConfigError, match="repairs nothing"):
        GuardPolicy(min_grounding=0.5, repair_risk=0.1)
