"""The retry loop: what each attempt changes, when it ends, and who makes the attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import ratios
from tenacity import RetryCallState, stop_after_delay, stop_when_event_set, wait_fixed

from saliency_guard import (
    Attempt,
    ConfigError,
    GroundedAnswer,
    GuardOutcome,
    GuardPolicy,
    LocoREConfig,
    LowGroundingError,
    RetryPlan,
    SGRSConfig,
    TokenGrounding,
)
from saliency_guard.guard.outcome import EMPTY_ANSWER
from saliency_guard.guard.retry import AttemptPlanner, PlannedAttempt, weak_words

ANSWER = ratios(1.0).model_copy(update={"grounding": 0.9, "calibrated": True})
GOOD, BAD, WORSE = (ANSWER.model_copy(update={"grounding": score}) for score in (0.9, 0.2, 0.1))
Result = GroundedAnswer | Attempt | None


def weak_answer(*pieces: tuple[str, float | None]) -> GroundedAnswer:
    tokens = tuple(
        TokenGrounding(text=text, token_id=1, position=at, logprob=0.0, saliency=None).model_copy(
            update={"grounding": grounding}  # Not checked: NaN is one of them.
        )
        for at, (text, grounding) in enumerate(pieces)
    )
    text = "".join(text for text, _ in pieces)
    return BAD.model_copy(update={"tokens": tokens, "text": text})


def play(policy: GuardPolicy, results: Sequence[Result], **settings: Any) -> tuple[list[PlannedAttempt], Any]:
    """The planned attempts, and the outcome, where each attempt in turn has one of the results."""
    loop = policy.planned_attempts(**settings)
    planned = [next(loop)]
    for result in results:
        try:
            planned.append(loop.send(result))
        except StopIteration as end:
            return planned, end.value
    raise AssertionError(planned)


class TestPlanner:
    """What a retry changes."""

    def test_the_first_attempt_changes_nothing(self) -> None:
        assert AttemptPlanner(RetryPlan(alpha_step=0.1), 7).planned(0, None) == PlannedAttempt(0)

    def test_a_new_seed_comes_with_a_temperature_under_which_it_matters(self) -> None:
        second = AttemptPlanner(RetryPlan(temperature=0.7), 7, 0.0, names_seed=True).planned(2, BAD)
        assert second is not None
        assert (second.settings, second.change) == ({"seed": 9, "temperature": 0.7}, "seed 9 at temperature 0.7")
        hot = AttemptPlanner(RetryPlan(temperature=0.7), 7, 1.2).planned(1, BAD)
        assert hot is not None
        assert (hot.settings["temperature"], hot.change) == (1.2, "sampled again at temperature 1.2")

    def test_sgrs_and_locore_get_stricter(self) -> None:
        plan = RetryPlan(alpha_step=0.1, beta_step=0.05, new_seed=False)
        planner = AttemptPlanner(plan, 7, 0.0, SGRSConfig(alpha=0.6), LocoREConfig())
        planner.require_changes()
        second = planner.planned(2, BAD)
        assert second is not None
        assert second.settings["sgrs"].alpha == pytest.approx(0.8)
        assert second.settings["locore"].beta == pytest.approx(LocoREConfig().beta + 0.1)
        assert second.change == "alpha 0.8; beta 0.25"
        last = planner.planned(9, BAD)
        assert last is not None
        assert last.settings["sgrs"].alpha == 0.99

    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            (RetryPlan(alpha_step=0.1), "alpha_step=0.1 changes SGRS"),
            (RetryPlan(new_seed=False, alpha_step=0.1), r"sgrs=SGRSConfig\(\)"),
            (RetryPlan(beta_step=0.1), "beta_step=0.1 changes LocoRE"),
            (RetryPlan(temperature=0.0), "temperature 0 would only repeat"),
        ],
    )
    def test_a_change_that_cannot_be_made_is_an_error(self, plan: RetryPlan, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            AttemptPlanner(plan, 7).require_changes()

    def test_attempts_that_would_repeat_another_one_are_not_planned(self) -> None:
        greedy = AttemptPlanner(RetryPlan(temperature=0.0), 7, 0.0)
        assert greedy.planned(0, None) is not None
        assert greedy.planned(1, BAD) is None
        unknown = AttemptPlanner(RetryPlan(temperature=0.0), 7, None)  # Somebody else's model may sample.
        assert unknown.planned(0, None) is not None
        capped = AttemptPlanner(RetryPlan(new_seed=False, alpha_step=0.5), 7, 0.0, SGRSConfig(alpha=0.6))
        assert [capped.planned(number, BAD) is not None for number in range(3)] == [True, True, False]

    def test_weak_words_are_named_once_and_whole(self) -> None:
        weak = weak_answer(
            (" app", 0.2), ("le", None), (" and", None), (" cat", 0.9), (",", None), (" apple", 0.1), (".", None)
        )
        assert weak_words(weak, 0.5) == ["apple"]
        assert weak_words(weak_answer((" cat", 0.9), (" dog", float("nan"))), 0.5) == ["dog"]
        planner = AttemptPlanner(RetryPlan(name_spans=True, new_seed=False), 7)
        assert planner.planned(0, None) is not None
        named = planner.planned(1, weak)
        assert named is not None
        assert (named.settings, named.change) == ({}, "asked to check 1 word")
        assert named.request.endswith("Check these words: apple.")
        assert planner.planned(2, weak) is None
        assert planner.planned(2, BAD) is None  # It names nothing.


class TestPlannedAttempts:
    """The loop for agents and query engines, which ask their own model."""

    def test_a_good_answer_ends_it(self) -> None:
        planned, outcome = play(GuardPolicy(min_grounding=0.5), [GOOD])
        assert planned == [PlannedAttempt(0)]
        assert (outcome.decision, outcome.chosen, outcome.text) == ("accepted", 0, GOOD.text)

    def test_refused_answers_are_retried(self) -> None:
        policy = GuardPolicy(min_grounding=0.5, max_retries=3)
        planned, outcome = play(policy, [BAD, WORSE, GOOD], seed=7, temperature=0.2)
        assert [attempt.settings for attempt in planned] == [
            {},
            {"seed": 8, "temperature": 0.7},
            {"seed": 9, "temperature": 0.7},
        ]
        assert (outcome.decision, outcome.chosen) == ("accepted", 2)
        assert [attempt.accepted for attempt in outcome.attempts] == [False, False, True]
        assert [attempt.change for attempt in outcome.attempts[1:]] == ["sampled again at temperature 0.7"] * 2

    def test_answers_that_cannot_be_judged_are_retried(self) -> None:
        unknown = ANSWER.model_copy(update={"grounding": None})
        _, outcome = play(GuardPolicy(min_grounding=0.5, max_retries=1), [unknown, GOOD])
        assert (outcome.decision, outcome.chosen) == ("accepted", 1)
        _, outcome = play(GuardPolicy(min_grounding=0.5, max_retries=1), [unknown, unknown], has_fallback=True)
        assert outcome.decision == "unscored"

    def test_the_best_of_all_is_flagged_or_raised(self) -> None:
        policy = GuardPolicy(min_grounding=0.5, max_retries=1)
        _, outcome = play(policy, [WORSE, BAD])
        assert (outcome.decision, outcome.chosen) == ("flagged", 1)
        with pytest.raises(LowGroundingError, match="2 attempt"):
            play(policy.model_copy(update={"on_low": "raise"}), [WORSE, BAD])

    def test_the_fallback_model_is_asked_last(self) -> None:
        policy = GuardPolicy(min_grounding=0.5, max_retries=1)
        planned, outcome = play(policy, [BAD, BAD, GOOD], has_fallback=True)
        assert [attempt.is_fallback for attempt in planned] == [False, False, True]
        assert (outcome.decision, outcome.chosen) == ("fallback", 2)
        _, low = play(policy, [BAD, BAD, WORSE], has_fallback=True)
        assert (low.decision, low.chosen) == ("flagged", 2)
        _, unknown = play(policy, [BAD, BAD, ANSWER.model_copy(update={"grounding": None})], has_fallback=True)
        assert (unknown.decision, unknown.chosen) == ("unscored", 2)
        only = GuardPolicy(min_grounding=0.5, on_low="fallback")
        assert play(only, [BAD, GOOD], has_fallback=True)[1].decision == "fallback"

    def test_the_policys_own_fallback(self) -> None:
        policy = GuardPolicy(
            min_grounding=0.5, on_low="fallback", fallback=lambda *given: f"{given[0]} {len(given[1])}"
        )
        _, outcome = play(policy, [BAD], messages=[])
        assert (outcome.decision, outcome.chosen, outcome.text) == ("fallback", None, "[] 1")
        with pytest.raises(ConfigError, match="needs fallback"):
            play(GuardPolicy(min_grounding=0.5, on_low="fallback"), [BAD])

    def test_what_is_no_answer_ends_it_without_an_outcome(self) -> None:
        assert play(GuardPolicy(min_grounding=0.5), [None])[1] is None
        assert play(GuardPolicy(min_grounding=0.5), [BAD, None], has_fallback=True)[1] is None

    def test_an_empty_answer_is_refused(self) -> None:
        policy = GuardPolicy(min_grounding=0.5, max_retries=2)
        _, outcome = play(policy, [EMPTY_ANSWER, EMPTY_ANSWER, GOOD])
        assert (outcome.decision, outcome.chosen) == ("accepted", 2)
        _, flagged = play(policy, [BAD, EMPTY_ANSWER, EMPTY_ANSWER])
        assert (flagged.decision, flagged.chosen) == ("flagged", 0)
        assert flagged.attempts[1].refused == "the answer is empty"
        _, nothing = play(policy, [EMPTY_ANSWER] * 3)
        assert (nothing.decision, nothing.text) == ("flagged", "")

    def test_changes_to_sgrs_and_locore_are_planned_or_refused(self) -> None:
        plan = RetryPlan(new_seed=False, alpha_step=0.1, beta_step=0.1)
        policy = GuardPolicy(min_grounding=0.5, max_retries=1, retry=plan)
        with pytest.raises(ConfigError, match="alpha_step"):
            policy.planned_attempts()  # Before any model is asked.
        planned, _ = play(policy, [BAD, GOOD], sgrs=SGRSConfig(alpha=0.6), locore=LocoREConfig(beta=0.2))
        assert planned[1].settings["sgrs"].alpha == pytest.approx(0.7)
        assert planned[1].settings["locore"].beta == pytest.approx(0.3)

    def test_a_first_attempt_may_be_a_retry(self) -> None:
        planned, _ = play(GuardPolicy(min_grounding=0.5, max_retries=1), [BAD, GOOD], first=2, seed=1)
        assert [(attempt.number, attempt.settings["seed"]) for attempt in planned] == [(2, 3), (3, 4)]


class TestTenacity:
    """Stops, waits and callbacks are tenacity's own."""

    def test_any_stop_ends_the_retries(self) -> None:
        event = threading.Event()
        policy = GuardPolicy(min_grounding=0.5, max_retries=9, stop=stop_when_event_set(event), after=lambda _: None)
        loop = policy.planned_attempts()
        assert [next(loop).number, loop.send(BAD).number] == [0, 1]
        event.set()
        with pytest.raises(StopIteration) as end:
            loop.send(BAD)
        assert end.value.value.decision == "flagged"
        _, outcome = play(policy.model_copy(update={"max_retries": 0}), [BAD])
        assert len(outcome.attempts) == 1
        _, outcome = play(GuardPolicy(min_grounding=0.5, max_retries=9, stop=stop_after_delay(0)), [BAD])
        assert len(outcome.attempts) == 1

    @staticmethod
    def aged(seconds: float) -> Callable[[RetryCallState], None]:
        """Let the run have begun earlier, as the retry state counts."""

        def age(state: RetryCallState) -> None:
            state.start_time -= seconds

        return age

    def test_a_deadline_ends_the_retries(self) -> None:
        policy = GuardPolicy(min_grounding=0.5, max_retries=5, deadline=100.0, after=self.aged(60.0))
        planned, outcome = play(policy, [BAD, BAD])
        assert (len(planned), outcome.decision) == (2, "flagged")

    def test_there_is_no_wait_beyond_the_deadline(self) -> None:
        policy = GuardPolicy(min_grounding=0.5, max_retries=5, deadline=100.0, wait=wait_fixed(150))
        assert len(play(policy, [BAD])[0]) == 1

    def test_waits_are_planned_for_retries(self) -> None:
        policy = GuardPolicy(min_grounding=0.5, max_retries=2, wait=wait_fixed(3))
        planned, _ = play(policy, [BAD, BAD, BAD])
        assert [attempt.wait for attempt in planned] == [0.0, 3.0, 3.0]

    def test_callbacks_get_the_attempt_as_the_outcome(self) -> None:
        calls: list[tuple[str, int, float | None]] = []

        def noted(name: str) -> Callable[[RetryCallState], None]:
            def note(state: RetryCallState) -> None:
                score = None if state.outcome is None else state.outcome.result().score
                calls.append((name, state.attempt_number, score))

            return note

        policy = GuardPolicy(
            min_grounding=0.5,
            max_retries=2,
            before=noted("before"),
            after=noted("after"),
            before_sleep=noted("before_sleep"),
        )
        play(policy, [BAD, GOOD])
        assert calls == [("before", 1, None), ("after", 1, 0.2), ("before_sleep", 1, 0.2), ("before", 2, None)]

    def test_the_loop_may_go_on_in_another_thread(self) -> None:
        loop = GuardPolicy(min_grounding=0.5, max_retries=3, wait=wait_fixed(1)).planned_attempts()
        numbers = [next(loop).number]
        for _ in range(3):
            thread = threading.Thread(target=lambda: numbers.append(loop.send(BAD).number))
            thread.start()
            thread.join()
        assert numbers == [0, 1, 2, 3]


@given(
    scores=st.lists(st.sampled_from([0.1, 0.4, 0.6, 0.9]), min_size=6, max_size=6),
    retries=st.integers(0, 4),
    keep=st.sampled_from(["first", "best"]),
    has_fallback=st.booleans(),
)
def test_rules_of_every_loop(scores: list[float], retries: int, keep: Any, has_fallback: bool) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=retries, retry=RetryPlan(keep=keep))
    loop = policy.planned_attempts(has_fallback=has_fallback)
    planned = [next(loop)]
    outcome: GuardOutcome | None = None
    for score in scores:
        try:
            planned.append(loop.send(GOOD.model_copy(update={"grounding": score})))
        except StopIteration as end:
            outcome = end.value
            break
    assert outcome is not None
    before_fallback = [score for score, attempt in zip(scores, planned, strict=False) if not attempt.is_fallback]
    assert len(before_fallback) <= retries + 1
    assert outcome.chosen is not None
    picked = scores[outcome.chosen]
    assert (picked >= 0.5) == (outcome.decision != "flagged")
    assert outcome.guarantee is None
    if outcome.decision == "accepted":
        good = [score for score in before_fallback if score >= 0.5]
        assert picked == (max(good) if keep == "best" else good[0])
    assert planned[-1].is_fallback == (has_fallback and all(score < 0.5 for score in before_fallback))
