"""Measures of the embedded model, on a model whose answers are known."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from saliency_guard import LVLM
from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.language import how_many, where
from saliency_guard.training import evaluate


@pytest.fixture(scope="module")
def shown() -> list[Any]:
    return list(pictures("development", 4))


def test_a_right_answer_is_exactly_the_true_one(lvlm: LVLM, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [(picture, how_many(picture.scene, min(picture.scene.counts))) for picture in shown]
    said = [exchange.answer for _, exchange in questions]
    said[1] = said[1].replace(".", "!")

    def write(_: LVLM, images: list[Any], asked: list[str], *, max_new_tokens: int) -> list[list[int]]:
        assert asked == [exchange.question for _, exchange in questions]
        return [lvlm.tokenizer(text)["input_ids"] for text in said]

    monkeypatch.setattr(evaluate, "write_answers", write)
    assert evaluate.exact_answers(lvlm, questions) == 0.75
    assert evaluate.counts(lvlm, shown) == 0.75


def test_without_questions_there_is_no_share(lvlm: LVLM) -> None:
    assert str(evaluate.exact_answers(lvlm, [])) == "nan"


def test_places_are_asked_for_where_there_is_a_single_one(
    lvlm: LVLM, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def write(_: LVLM, images: list[Any], questions: list[str], *, max_new_tokens: int) -> list[list[int]]:
        asked.extend(questions)
        return [[] for _ in questions]

    monkeypatch.setattr(evaluate, "write_answers", write)
    assert evaluate.places(lvlm, shown) == 0.0
    single = [
        (picture, min(name for name, count in picture.scene.counts.items() if count == 1))
        for picture in shown
        if 1 in picture.scene.counts.values()
    ]
    assert asked == [where(picture.scene, name).question for picture, name in single]


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "--pictures", "2", "--sight-alone", "--split", "development"])
    monkeypatch.setattr(evaluate, "speed", lambda *_: 12.34)
    evaluate.main()
    result = json.loads(capsys.readouterr().out)
    assert (result["split"], result["pictures"], result["model"]) == ("development", 2, "saliency-guard/embedded")
    assert {"pope", "captions", "counts", "places"} <= set(result)
    assert result["tokens_per_second"] == 12.3
    assert "tools" not in result
