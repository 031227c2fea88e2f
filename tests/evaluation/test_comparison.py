"""Ways to doubt an answer: each number against one that is counted or computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from saliency_guard import LVLM
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.evaluation import comparison
from saliency_guard.evaluation.comparison import (
    GROUNDING,
    JUDGE,
    LIKELIHOOD,
    PLAIN,
    SAMPLED,
    WAYS,
    ComparedAnswer,
    agreement,
    compare_ways,
    compared_answers,
    comparison_section,
    costs,
    fitted_elsewhere,
    judged,
)
from saliency_guard.evaluation.questions import world_questions
from saliency_guard.evaluation.world import pictures


def test_agreement_counts_samples_that_claim_the_same() -> None:
    dog = ExtractedClaim("object", 0, 3, "There is a dog in the image.")
    cat = ExtractedClaim("object", 4, 7, "There is a cat in the image.")
    no_dog = ExtractedClaim("object", 0, 3, "There is a dog in the image.", negated=True)
    assert agreement([dog, cat], [[dog], [dog, cat], [no_dog], []]) == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert agreement([no_dog], [[no_dog], [dog]]) == 0.5


def test_a_judge_says_what_the_model_says_after_the_question(lvlm: LVLM) -> None:
    question = world_questions(next(pictures("development", 1)))[1]
    text = question.given or ""
    content = [{"type": "image", "image": question.images[0]}]
    content.append({"type": "text", "text": f"Is this true: {text} Answer yes or no."})
    inputs = lvlm.inputs([{"role": "user", "content": content}])
    with torch.no_grad():
        logits: Any = lvlm.model(**inputs).logits[0, -1].double()
    probabilities = torch.softmax(logits, 0)
    spelled = [lvlm.tokenizer.decode([index]).strip().casefold() for index in range(len(probabilities))]
    yes, no = (sum(float(probabilities[i]) for i, word in enumerate(spelled) if word == said) for said in ("yes", "no"))
    assert judged(lvlm, question, text) == pytest.approx(yes / (yes + no), abs=1e-4)


def test_every_answer_has_every_way(lvlm: LVLM) -> None:
    asked = world_questions(next(pictures("development", 1)))
    seen: list[None] = []
    answers = compared_answers(lvlm, "development", 1, on_answer=lambda: seen.append(None))
    assert len(seen) == len(asked) == 4
    assert len(answers) >= 3
    for answer in answers:
        assert set(answer.scores) == set(WAYS)
        question = next(each for each in asked if each.question == answer.question)
        messages = [{"role": "user", "content": [{"type": "image", "image": question.images[0]}]}]
        messages[0]["content"].append({"type": "text", "text": question.question})  # type: ignore[attr-defined]
        alone = lvlm.generate(messages, max_new_tokens=96)
        assert alone.text == answer.text
        mean = sum(token.logprob for token in alone.tokens) / len(alone.tokens)
        assert answer.scores[LIKELIHOOD] == pytest.approx(math.exp(mean), abs=1e-5)
        assert answer.scores[GROUNDING] == pytest.approx(alone.grounding, abs=1e-4)


def answers_of(scores: list[float | None], right: list[bool]) -> list[ComparedAnswer]:
    """Two answers a picture, with the same number by every way but grounding, which has these."""
    return [
        ComparedAnswer(str(index // 2), "q", "t", truth, {**dict.fromkeys(WAYS, 0.5), GROUNDING: score})
        for index, (score, truth) in enumerate(zip(scores, right, strict=True))
    ]


def test_numbers_are_measured_where_they_are() -> None:
    scores = [0.9, None, 0.8, 0.2, 0.7, 0.1, None, 0.3]
    right = [True, False, True, False, True, False, True, False]
    result = compare_ways("openmoji", answers_of(scores, right), samples=5)
    assert (result.answers, result.right, result.with_grounding) == (8, 0.5, 6)
    ways = {way.name: way for way in result.ways}
    assert ways[GROUNDING].known == 0.75
    assert ways[GROUNDING].all.value == 1.0
    assert ways[GROUNDING].ece == pytest.approx((0.1 + 0.2 + 0.3 + 0.2 + 0.1 + 0.3) / 6)  # A bin for each.
    assert ways[GROUNDING].brier == pytest.approx((0.01 + 0.04 + 0.09 + 0.04 + 0.01 + 0.09) / 6)
    assert ways[JUDGE].known == 1.0
    assert ways[JUDGE].all.value == ways[JUDGE].shared.value == 0.5


def test_where_nothing_has_a_number_there_is_no_result() -> None:
    result = compare_ways("openmoji", answers_of([None, None], [True, False]), samples=5)
    way = next(way for way in result.ways if way.name == GROUNDING)
    assert way.known == 0.0
    assert all(math.isnan(value) for value in (way.all.value, way.ece, way.ece_fitted))


def test_a_fit_sees_the_other_half_alone() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=400)
    right = rng.uniform(size=400) < scores**3  # Far too confident.
    picture = np.repeat(np.arange(200), 2)
    fitted = fitted_elsewhere(scores, right, picture)
    half = np.isin(picture, np.arange(200)[::2])
    flipped = np.where(half, ~right, right)
    assert np.array_equal(fitted_elsewhere(scores, flipped, picture)[half], fitted[half])
    assert not np.array_equal(fitted_elsewhere(scores, flipped, picture)[~half], fitted[~half])
    assert abs(fitted.mean() - right.mean()) < 0.05 < abs(scores.mean() - right.mean())
    alike = fitted_elsewhere(scores, np.ones(400, dtype=bool), picture)
    assert np.isnan(alike).all()


def test_costs_are_in_plain_generations(lvlm: LVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def seconds(_: LVLM, work: Any) -> float:
        calls.append(work)
        if work.func is comparison._written:
            return 2.0 if work.args[2] == 1 else 6.0
        return 1.0 if work.func is judged else 5.0

    monkeypatch.setattr(comparison, "_seconds", seconds)
    cost = costs(lvlm, "development", 1)
    assert cost == {PLAIN: 1.0, SAMPLED: 4.0, JUDGE: 1.5, GROUNDING: 2.5}
    assert len(calls) == 2 * 4 * 4
    assert {whose for _, whose in WAYS.values()} == set(cost)


def test_work_is_done_when_it_is_timed(lvlm: LVLM) -> None:
    done: list[int] = []
    seconds = comparison._seconds(lvlm, lambda: done.append(sum(range(3_000_000))))
    assert done == [sum(range(3_000_000))]
    assert seconds > 0.001  # Of the processor, whatever else it has to do.


def test_the_section_has_a_row_for_every_way() -> None:
    scores = [0.9, None, 0.8, 0.2, 0.7, 0.1, None, 0.3]
    result = compare_ways("openmoji", answers_of(scores, [index % 2 == 0 for index in range(8)]), samples=5)
    cost = {PLAIN: 1.0, SAMPLED: 4.04, JUDGE: 1.5, GROUNDING: 2.5}
    text = comparison_section([result], cost, "the command", model="m", scenes=2)
    assert "### OpenMoji\n\n8 answers that claim anything, 50.0% of them right; 6 get a grounding." in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert [row.split(" | ")[1] for row in rows[1:]] == ["1.0", "1.0", "4.0", "4.0", "1.5", "2.5", "2.5"]
    assert "| **grounding** (this package) | 2.5 | 75% | 1.000 [1.000, 1.000] |" in text
