"""A batch of records with one model."""

from __future__ import annotations

import pytest
from PIL import Image

from saliency_guard import LVLM, ConfigError, GuardPolicy
from saliency_guard.chat.messages import chat
from saliency_guard.dataset.rows import Question
from saliency_guard.dataset.scoring import Problem, Scored, ScoreQuestions, Scoring
from saliency_guard.scenes.language import DESCRIBE

ASKED = "Is there a pizza in the image?"


def question(picture: Image.Image, name: str, answer: str | None) -> Question:
    return Question(name, chat(picture, ASKED), answer)


def test_answers_are_scored_and_missing_ones_written(lvlm: LVLM, picture: Image.Image) -> None:
    questions = [question(picture, "a", "No, there is no pizza in the image."), question(picture, "b", None)]
    given, written = ScoreQuestions(Scoring(max_new_tokens=8))(lvlm, questions)
    scored = lvlm.score(chat(picture, ASKED), questions[0].answer or "")
    generated = lvlm.generate(chat(picture, ASKED), max_new_tokens=8)
    assert isinstance(given, Scored)
    assert isinstance(written, Scored)
    assert given.report["score"] == pytest.approx(scored.grounding, abs=1e-6)
    assert (written.id, written.text, written.model) == ("b", generated.text, lvlm.model_id)
    assert written.report["score"] == pytest.approx(generated.grounding, abs=1e-6)


def test_one_records_trouble_is_not_anothers(lvlm: LVLM, picture: Image.Image) -> None:
    questions = [
        question(picture, "good", "No."),
        question(picture, "empty", "  "),
        Question("no picture file", chat(b"no picture", ASKED), "No."),
        question(picture, "too long", "no " * 4000),
        question(picture, "last", "Yes."),
    ]
    results = ScoreQuestions(Scoring())(lvlm, questions)
    assert [isinstance(result, Scored) for result in results] == [True, False, False, False, True]
    problems = [result for result in results if isinstance(result, Problem)]
    assert [problem.error for problem in problems] == ["InputError", "ImageError", "ContextLengthError"]
    assert "empty" in problems[0].message


def test_draws_do_not_depend_on_what_else_is_in_the_batch(lvlm: LVLM, picture: Image.Image) -> None:
    work = ScoreQuestions(Scoring(temperature=1.0, max_new_tokens=8, seed=3))
    one, other = question(picture, "a", None), question(picture, "b", None)
    together = work(lvlm, [one, other])
    alone = [*work(lvlm, [one]), *work(lvlm, [other])]
    assert [result.text for result in together] == [result.text for result in alone]
    described = [Question(str(number), chat(picture, DESCRIBE), None) for number in range(4)]
    wild = ScoreQuestions(Scoring(temperature=2.0, max_new_tokens=12, seed=3))
    assert len({result.text for result in wild(lvlm, described)}) > 1


def test_a_policy_decides(lvlm: LVLM, picture: Image.Image) -> None:
    policy = GuardPolicy(min_grounding=0.5, on_low="raise", unscored="raise")
    questions = [
        question(picture, "right", "No, there is no pizza in the image."),
        question(picture, "wrong", "Yes, there is a pizza in the image."),
        question(picture, "no claim", "It is there."),
        question(picture, "written", None),
    ]
    results = ScoreQuestions(Scoring(policy=policy))(lvlm, questions)
    decisions = [result.report["decision"] for result in results if isinstance(result, Scored)]
    assert decisions == ["accepted", "flagged", "unscored", "accepted"]
    strict = GuardPolicy(min_grounding=1.0, on_low="raise")
    (refused,) = ScoreQuestions(Scoring(policy=strict))(lvlm, questions[3:])
    assert isinstance(refused, Scored)
    assert (refused.text, refused.report["decision"]) == ("", "raised")


def test_wrong_settings_are_said_before_the_work() -> None:
    for wrong in ({"temperature": -1.0}, {"max_new_tokens": 0}, {"batch_size": 0}, {"seed": -1}, {"report": "all"}):
        with pytest.raises(ConfigError):
            Scoring(**wrong)
