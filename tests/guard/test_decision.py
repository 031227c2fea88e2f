"""Whether an answer is good enough, and what is given out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from saliency_guard import (
    LVLM,
    Attempt,
    GroundedAnswer,
    GuardPolicy,
    LowGroundingError,
    RetryPlan,
    SignalRule,
)
from saliency_guard.guard.decision import best_attempt, decide, judge


def scored(answer: GroundedAnswer, grounding: float | None, *, calibrated: bool = True) -> GroundedAnswer:
    return answer.model_copy(update={"grounding": grounding, "calibrated": calibrated})


def test_an_answer_is_accepted_refused_or_without_a_grounding(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=0.5)
    good, low, unknown = (
        judge(policy, scored(answer, 0.5)),
        judge(policy, scored(answer, 0.4)),
        judge(policy, scored(answer, None, calibrated=False).model_copy(update={"grounding_reason": "no picture"})),
    )
    assert (good.accepted, good.problem) == (True, None)
    assert (low.accepted, low.refused, low.reason) == (False, "grounding 0.400 is below 0.500", None)
    assert (unknown.accepted, unknown.refused) == (False, None)
    assert unknown.reason == unknown.problem == "no picture"


def test_rules_need_no_grounding_and_refuse_what_has_none(answer: GroundedAnswer) -> None:
    bare = scored(answer, None, calibrated=False)
    assert judge(GuardPolicy(rules=(SignalRule("logprob", below=-1e9),)), bare).accepted
    both = judge(GuardPolicy(min_grounding=0.5, rules=(SignalRule("logprob", above=-1e9),)), bare)
    assert "logprob" in (both.refused or "")
    assert both.reason is None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.5, 1.5])
def test_what_is_no_probability_is_never_accepted(answer: GroundedAnswer, wrong: float) -> None:
    """NaN is below nothing: a comparison alone would let it pass."""
    spoilt = judge(GuardPolicy(min_grounding=0.0), scored(answer, wrong))
    assert "is no probability" in (spoilt.refused or "")
    low = judge(GuardPolicy(min_grounding=0.5), scored(answer, 0.01))
    for attempts in ([spoilt, low], [low, spoilt]):
        assert best_attempt(attempts, "best") is low


@pytest.mark.parametrize(
    ("unscored", "decision", "passes"), [("flag", "unscored", False), ("pass", "unscored", True), ("raise", None, None)]
)
def test_an_answer_that_cannot_be_judged_is_unscored_with_a_reason(
    answer: GroundedAnswer, unscored: Any, decision: str | None, passes: bool | None
) -> None:
    policy = GuardPolicy(min_grounding=0.5, unscored=unscored)
    attempt = judge(policy, scored(answer, None, calibrated=False))
    if decision is None:
        with pytest.raises(LowGroundingError, match=r"no answer could be judged .* has no calibrated grounding"):
            decide(policy, (attempt,))
        return
    outcome = decide(policy, (attempt,))
    assert (outcome.decision, outcome.passes, outcome.accepted) == (decision, passes, False)
    assert outcome.reason == attempt.reason
    assert outcome.text == answer.text


def test_on_low_is_not_for_what_could_not_be_judged(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Ask a person.")
    assert decide(policy, (judge(policy, scored(answer, None)),)).decision == "unscored"
    assert decide(policy, (judge(policy, scored(answer, 0.1)),)).decision == "fallback"
    strict = GuardPolicy(min_grounding=0.5, on_low="raise")
    assert decide(strict, (judge(strict, scored(answer, None)),)).decision == "unscored"


def test_a_refused_attempt_counts_more_than_one_that_could_not_be_judged(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=0.5, on_low="raise")
    unknown, low = judge(policy, scored(answer, None)), judge(policy, scored(answer, 0.1))
    for attempts in ((unknown, low), (low, unknown)):
        with pytest.raises(LowGroundingError, match="grounded well enough after 2"):
            decide(policy, attempts)
    good = judge(policy, scored(answer, 0.9))
    assert decide(policy, (unknown, low, good)).chosen == 2


def test_the_first_or_the_best_accepted_attempt_is_kept(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=0.5)
    attempts = tuple(judge(policy, scored(answer, score)) for score in (0.2, 0.6, 0.9, 0.7))
    assert decide(policy, attempts).score == 0.6
    assert decide(policy.model_copy(update={"retry": RetryPlan(keep="best")}), attempts).score == 0.9
    assert decide(policy, attempts[:1] * 2).decision == "flagged"


def test_a_fallback_gets_messages_and_attempts_and_gives_an_answer(
    answer: GroundedAnswer, messages: list[dict[str, Any]]
) -> None:
    calls: list[Any] = []

    def fallback(given: Any, attempts: Sequence[Attempt]) -> str:
        calls.append((given, attempts))
        return "I cannot say."

    policy = GuardPolicy(min_grounding=1.0, on_low="fallback", fallback=fallback)
    low = (judge(policy, scored(answer, 0.1)),)
    outcome = decide(policy, low, messages)
    assert (outcome.decision, outcome.text, outcome.answer, outcome.chosen) == ("fallback", "I cannot say.", None, None)
    assert calls[0][0] is messages
    assert calls[0][1] is low
    other = policy.model_copy(update={"fallback": lambda *_: answer})
    assert decide(other, low).answer is answer


def test_an_answer_without_claims_is_unscored(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    outcome = GuardPolicy(min_grounding=0.1).check(lvlm.score(messages, "It is there."))
    assert (outcome.decision, outcome.calibrated, outcome.score) == ("unscored", False, None)
    assert "makes no claim" in (outcome.reason or "")


def test_a_claim_below_the_threshold_refuses_what_could_not_be_judged_as_a_whole(lvlm: LVLM) -> None:
    picture = {"type": "image", "image": "examples/pictures/dog.png"}
    question = {"type": "text", "text": "Describe the image in detail."}
    messages = [{"role": "user", "content": [picture, question]}]
    policy = GuardPolicy(min_grounding=0.5)
    half = lvlm.score(messages, "The image shows a zebra. name: Anna.")  # A name is of no kind that is covered.
    assert half.grounding is None
    attempt = judge(policy, half)
    assert (attempt.reason, "has grounding" in (attempt.refused or "")) == (None, True)
    assert "zebra" not in (attempt.refused or "")
    assert judge(policy, lvlm.score(messages, "The image shows a dog. name: Anna.")).reason
