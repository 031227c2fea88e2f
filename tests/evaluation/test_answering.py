"""Questions of a benchmark where an engine works."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from saliency_guard import LVLM, InputError
from saliency_guard.engines.engine import LocalEngine
from saliency_guard.evaluation.answering import AnswerQuestions, PictureQuestion, answer_questions
from saliency_guard.evaluation.journal import Journal


def test_answers_are_those_of_the_model_and_are_kept(lvlm: LVLM, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "scene.png")
    questions = [
        PictureQuestion(str(number), tmp_path / "scene.png", f"Is there a {thing} in the image?")
        for number, thing in enumerate(("dog", "pizza", "cat"))
    ]
    journal = Journal(tmp_path / "answers.jsonl", {})
    journal.add("1", "kept")
    counted: list[None] = []
    answers = answer_questions(
        LocalEngine(lvlm), AnswerQuestions(8), questions, journal, on_answer=lambda: counted.append(None)
    )
    assert answers[1] == "kept"
    plain = AnswerQuestions(8)(lvlm, questions)
    assert [answers[0], answers[2]] == [plain[0], plain[2]]
    assert len(counted) == 3
    assert Journal(tmp_path / "answers.jsonl", {}).results == dict(zip("012", answers, strict=True))


def test_a_picture_that_is_not_there_is_said(lvlm: LVLM, tmp_path: Path) -> None:
    questions = [PictureQuestion("0", tmp_path / "none.png", "What?")]
    with pytest.raises(InputError, match=r"none\.png"):
        answer_questions(LocalEngine(lvlm), AnswerQuestions(8), questions, Journal(tmp_path / "a.jsonl", {}))
