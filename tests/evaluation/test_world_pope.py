"""POPE on the picture world."""

from __future__ import annotations

from pathlib import Path

import pytest

from saliency_guard import LVLM, LocoREConfig, SGRSConfig
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.mitigation import Guard
from saliency_guard.evaluation.world import pictures
from saliency_guard.evaluation.world_pope import compare_answers, world_pope, world_questions

GUARDS = {"nothing": Guard(), "both": Guard(sgrs=SGRSConfig(alpha=0.9), locore=LocoREConfig(beta=0.5))}


def test_questions_are_balanced_and_true() -> None:
    shown = list(pictures("development", 5))
    for kind in ("random", "popular", "adversarial"):
        questions = world_questions(shown, kind)
        assert [question.truth for question in questions] == [True, False] * 5
        for question in questions:
            named = ObjectVocabulary.world().find(question.text)[0].name
            assert (named in question.picture.scene.counts) is question.truth


def test_guarded_and_batched_questions_agree_where_there_is_no_guard(lvlm: LVLM, tmp_path: Path) -> None:
    shown = list(pictures("development", 3))
    journal = Journal(tmp_path / "j", {})
    plain, guarded = compare_answers(lvlm, shown, GUARDS, sampled=False, journal=journal)
    assert compare_answers(None, shown, GUARDS, sampled=False, journal=Journal(tmp_path / "j", {})) == [plain, guarded]  # type: ignore[arg-type]
    assert plain.values == world_pope(lvlm, shown)
    assert plain.differences == {}
    assert set(guarded.differences) == {"random", "popular", "adversarial"}
    for kind, difference in guarded.differences.items():
        assert difference.value == pytest.approx(guarded.values[kind]["accuracy"] - plain.values[kind]["accuracy"])
    sampled = compare_answers(lvlm, shown, {"nothing": Guard()}, sampled=True)
    assert sampled[0].sampled
    assert sampled[0].values["random"]["questions"] == 6
