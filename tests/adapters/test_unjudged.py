"""Answers that are not judged: they say why, and a policy decides on them."""

from __future__ import annotations

import pytest

from saliency_guard import ConfigError, GuardPolicy, ImageError, LowGroundingError
from saliency_guard.adapters import (
    NO_ARGUMENTS,
    SAID_SO,
    JudgedText,
    answer_report,
    empty_attempt,
    not_applicable,
    nothing_to_score,
    scorer_trouble,
    unscored_attempt,
)


def test_a_policy_decides_on_what_could_not_be_judged() -> None:
    attempt = unscored_attempt("A cup.", "the scorer is broken")
    outcome = GuardPolicy(min_grounding=0.5).decide((attempt,))
    assert (outcome.decision, outcome.text, outcome.reason, outcome.passes) == (
        "unscored",
        "A cup.",
        "the scorer is broken",
        False,
    )
    assert GuardPolicy(min_grounding=0.5, unscored="pass").decide((attempt,)).passes
    with pytest.raises(LowGroundingError, match="broken"):
        GuardPolicy(min_grounding=0.5, unscored="raise").decide((attempt,))


def test_an_empty_answer_is_refused_each_time() -> None:
    first, second = empty_attempt(), empty_attempt()
    outcome = GuardPolicy(min_grounding=0.5).decide((first, second))
    assert outcome.decision == "flagged"
    assert first.answer is not second.answer


def test_there_may_be_nothing_to_judge() -> None:
    outcome = not_applicable("Paris.", "no picture", GuardPolicy(min_grounding=0.5, on_low="raise", unscored="raise"))
    report = answer_report(outcome.answer, outcome)
    assert outcome.passes
    assert (report["decision"], report["reason"], report["attempts"]) == ("not_applicable", "no picture", [])


def test_trouble_of_the_scorer_is_a_reason_or_an_error() -> None:
    trouble = ImageError("it may not be fetched")
    assert "it may not be fetched" in scorer_trouble(trouble, "unscored")
    with pytest.raises(ImageError):
        scorer_trouble(trouble, "raise")
    with pytest.raises(ConfigError):
        scorer_trouble(ConfigError("no calibrator"), "unscored")


def test_why_there_is_nothing_to_score() -> None:
    said = JudgedText("Paris.")
    assert nothing_to_score(None, lambda _: None, lambda: True) == NO_ARGUMENTS
    assert nothing_to_score(said, lambda text: f"about {text}", None) == "about Paris."
    assert nothing_to_score(said, lambda _: "about Paris", lambda: True) is None
    assert nothing_to_score(said, lambda _: None, lambda: False) == SAID_SO
