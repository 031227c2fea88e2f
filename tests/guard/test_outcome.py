"""What a policy decided."""

from __future__ import annotations

import pickle

import pytest

from saliency_guard import GroundedAnswer, GuardPolicy, LowGroundingError
from saliency_guard.guard.decision import not_applicable
from saliency_guard.guard.outcome import EMPTY_ANSWER


def test_an_empty_answer_is_refused() -> None:
    assert (EMPTY_ANSWER.accepted, EMPTY_ANSWER.problem) == (False, "the answer is empty")


def test_the_chosen_attempt_is_the_one_with_the_answer(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=0.5)
    low = answer.model_copy(update={"grounding": 0.1})
    outcome = policy.decide((policy.judge(low), policy.judge(answer)))
    assert (outcome.chosen, outcome.accepted, outcome.passes) == (1, True, True)
    assert outcome.answer is answer


def test_an_error_goes_from_one_process_to_another(answer: GroundedAnswer) -> None:
    with pytest.raises(LowGroundingError, match=r"is below 1\.000") as caught:
        GuardPolicy(min_grounding=1.0, on_low="raise").check(answer)
    sent = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (str(sent), sent.attempts, sent.score) == (str(caught.value), caught.value.attempts, caught.value.score)
    assert (sent.answer, sent.threshold) == (answer, 1.0)


def test_a_page_shows_all_attempts_and_what_was_decided(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=0.5)
    low = answer.model_copy(update={"grounding": 0.1, "text": "A refused draft."})
    page = policy.decide((policy.judge(low), policy.judge(answer, "seed 1"))).to_html()
    for part in (
        "Attempt 1",
        "A refused draft.",
        "is below 0.500",
        "Attempt 2",
        "Changed: seed 1",
        "decision: accepted",
    ):
        assert part in page
    fallback = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "No idea.")
    page = fallback.decide((fallback.judge(low),), messages=[]).to_html()
    assert "decision: fallback (threshold 0.500); this answer was not given out" in page
    assert "Given out instead" in page
    assert "No idea." in page


def test_a_page_says_which_attempt_is_shown(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=0.5)
    low = answer.model_copy(update={"grounding": 0.1})
    page = policy.decide((policy.judge(low), policy.judge(answer))).to_html()
    assert "Attempt 2, shown above" in page
    assert page.count("shown above") == 1


def test_a_page_of_what_was_not_judged_shows_its_text_and_why() -> None:
    outcome = not_applicable("Good morning.", "the question is about no picture", GuardPolicy(min_grounding=0.5))
    page = outcome.to_html()
    assert "Good morning." in page
    assert "No grounding: the question is about no picture." in page
