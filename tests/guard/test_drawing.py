"""What is to be drawn next, and what comes of it: with answers scored by the embedded model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saliency_guard import (
    LVLM,
    Attempt,
    ConfigError,
    GroundedAnswer,
    GuardOutcome,
    GuardPolicy,
    LowGroundingError,
    RetryPlan,
)
from saliency_guard.chat.messages import chat
from saliency_guard.guard.drawing import NOTHING_SAID, Draw, draws
from saliency_guard.scenes.language import DESCRIBE

GOOD, BAD, WORSE = "good", "bad", "worse"
Answers = dict[str, GroundedAnswer]


@pytest.fixture(scope="module")
def answers(lvlm: LVLM, picture: Image.Image) -> Answers:
    messages = chat(picture, DESCRIBE)
    written = lvlm.generate(messages, sgrs=None, locore=None, max_new_tokens=24)
    found = {GOOD: written, BAD: lvlm.score(messages, "There is a zebra."), WORSE: written}
    return {
        name: one.model_copy(update={"grounding": grounding})
        for (name, one), grounding in zip(found.items(), (0.9, 0.2, 0.1), strict=True)
    }


def play(policy: GuardPolicy, come: Sequence[GroundedAnswer | Attempt | None], **how: Any) -> tuple[list[Draw], Any]:
    plan = draws(policy, **how)
    made = [next(plan)]
    for answer in come:
        try:
            made.append(plan.send(answer))
        except StopIteration as end:
            return made, end.value
    raise AssertionError(made)


def test_a_good_answer_is_drawn_once(answers: Answers) -> None:
    made, outcome = play(GuardPolicy(min_grounding=0.5), [answers[GOOD]])
    assert made == [Draw(0, {})]
    assert (outcome.decision, outcome.chosen, outcome.text) == ("accepted", 0, answers[GOOD].text)


def test_refused_answers_are_drawn_anew(answers: Answers) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=3)
    made, outcome = play(policy, [answers[BAD], answers[WORSE], answers[GOOD]], seed=7, temperature=0.2)
    assert [one.settings for one in made] == [{}, {"seed": 8, "temperature": 0.7}, {"seed": 9, "temperature": 0.7}]
    assert (outcome.decision, outcome.chosen) == ("accepted", 2)
    assert [one.refused is None for one in outcome.attempts] == [False, False, True]
    hot, _ = play(policy, [answers[BAD], answers[GOOD]], temperature=1.5)
    assert hot[1].settings["temperature"] == 1.5


def test_nothing_good_enough_is_flagged_with_the_best(answers: Answers) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=1)
    _, outcome = play(policy, [answers[WORSE], answers[BAD]])
    assert (outcome.decision, outcome.chosen) == ("flagged", 1)
    with pytest.raises(LowGroundingError, match="2 attempt"):
        play(policy.model_copy(update={"on_low": "raise"}), [answers[WORSE], answers[BAD]])


def test_the_fallback_model_is_asked_last(answers: Answers) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=1)
    made, outcome = play(policy, [answers[BAD], answers[BAD], answers[GOOD]], has_fallback=True)
    assert [one.is_fallback for one in made] == [False, False, True]
    assert (outcome.decision, outcome.chosen) == ("fallback", 2)
    _, low = play(policy, [answers[BAD], answers[BAD], answers[WORSE]], has_fallback=True)
    assert (low.decision, low.chosen) == ("flagged", 2)
    only = GuardPolicy(min_grounding=0.5, on_low="fallback")
    _, replaced = play(only, [answers[BAD], answers[GOOD]], has_fallback=True)
    assert replaced.decision == "fallback"


def test_the_policys_own_fallback(answers: Answers) -> None:
    def own(messages: Any, attempts: Sequence[Any]) -> str:
        return f"{messages} {len(attempts)}"

    policy = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=own)
    _, outcome = play(policy, [answers[BAD]], messages=[])
    assert (outcome.decision, outcome.chosen, outcome.text) == ("fallback", None, "[] 1")
    with pytest.raises(ConfigError, match="fallback"):
        play(GuardPolicy(min_grounding=0.5, on_low="fallback"), [answers[BAD]])


def test_what_is_no_answer_ends_it(answers: Answers) -> None:
    assert play(GuardPolicy(min_grounding=0.5), [None])[1] is None
    assert play(GuardPolicy(min_grounding=0.5, max_retries=0), [answers[BAD], None], has_fallback=True)[1] is None


def test_an_empty_answer_is_refused(answers: Answers) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=2)
    _, outcome = play(policy, [NOTHING_SAID, NOTHING_SAID, answers[GOOD]])
    assert (outcome.decision, outcome.chosen) == ("accepted", 2)
    _, flagged = play(policy, [answers[BAD], NOTHING_SAID, NOTHING_SAID])
    assert (flagged.decision, flagged.chosen) == ("flagged", 0)
    assert flagged.attempts[1].refused == "the answer is empty"
    _, nothing = play(policy, [NOTHING_SAID] * 3)
    assert (nothing.decision, nothing.text) == ("flagged", "")


def test_weak_words_are_named(answers: Answers) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=1, retry=RetryPlan(new_seed=False, name_spans=True))
    made, _ = play(policy, [answers[BAD], answers[GOOD]])
    assert made[1].settings == {}
    assert "zebra" in made[1].request
    unchanged = policy.model_copy(update={"retry": RetryPlan(new_seed=False)})
    made, outcome = play(unchanged, [answers[BAD]])
    assert len(made) == len(outcome.attempts) == 1  # Nothing would be other than before.


def test_a_first_attempt_may_be_a_retry(answers: Answers) -> None:
    made, _ = play(GuardPolicy(min_grounding=0.5), [answers[GOOD]], first=2, seed=1)
    assert made[0].settings["seed"] == 3


def test_a_deadline_ends_the_retries(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 5.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    made, outcome = play(GuardPolicy(min_grounding=0.5, max_retries=5, deadline=10.0), [answers[BAD], answers[BAD]])
    assert (len(made), outcome.decision) == (2, "flagged")


@given(
    scores=st.lists(st.sampled_from([0.1, 0.4, 0.6, 0.9]), min_size=6, max_size=6),
    retries=st.integers(0, 4),
    keep=st.sampled_from(["first", "best"]),
    has_fallback=st.booleans(),
)
def test_rules_of_every_plan(
    answers: Answers, scores: list[float], retries: int, keep: Any, has_fallback: bool
) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=retries, retry=RetryPlan(keep=keep))
    plan = draws(policy, has_fallback=has_fallback)
    made = [next(plan)]
    outcome: GuardOutcome | None = None
    for score in scores:
        try:
            made.append(plan.send(answers[GOOD].model_copy(update={"grounding": score})))
        except StopIteration as end:
            outcome = end.value
            break
    assert outcome is not None
    own = [score for score, one in zip(scores, made, strict=False) if not one.is_fallback]
    assert len(own) <= retries + 1
    assert outcome.chosen is not None
    picked = scores[outcome.chosen]
    assert (picked >= 0.5) == (outcome.decision != "flagged")
    assert outcome.guarantee is None
    if outcome.decision == "accepted":
        good = [score for score in own if score >= 0.5]
        assert picked == (max(good) if keep == "best" else good[0])
    assert made[-1].is_fallback == (has_fallback and all(score < 0.5 for score in own))
