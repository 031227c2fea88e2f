from __future__ import annotations

import pytest

from saliency_guard import LVLM, LocoREConfig, SGRSConfig
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.mitigation import compare, compare_answers, world_pope, world_questions
from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.language import DESCRIBE

GUARDS = {"nothing": (None, None), "both": (SGRSConfig(alpha=0.9), LocoREConfig(beta=0.5))}


def test_guards_are_compared_on_the_same_pictures(lvlm: LVLM) -> None:
    shown = list(pictures("development", 4))
    results, baseline = compare(lvlm, shown, GUARDS, sampled=False, max_new_tokens=24)
    plain, guarded = results
    captions = [lvlm.generate(chat(one.image, DESCRIBE), max_new_tokens=24).text for one in shown]
    scores = [
        score_caption(text, one.scene.counts, ObjectVocabulary.world())
        for text, one in zip(captions, shown, strict=True)
    ]
    assert {name: plain.values[name] for name in chair(scores)} == pytest.approx(chair(scores), nan_ok=True)
    assert plain.values["rejections_per_100_tokens"] == 0
    assert plain.differences == {}
    assert guarded.values["rejections_per_100_tokens"] > 0
    assert guarded.differences["words"].value == pytest.approx(guarded.values["words"] - plain.values["words"])
    again, _ = compare(lvlm, shown, {"both": GUARDS["both"]}, sampled=False, max_new_tokens=24, baseline=baseline)
    assert again[0].differences["words"] == guarded.differences["words"]


def test_questions_are_balanced_and_true() -> None:
    shown = list(pictures("development", 5))
    for kind in ("random", "popular", "adversarial"):
        questions = world_questions(shown, kind)
        assert [question.truth for question in questions] == [True, False] * 5
        for question in questions:
            named = ObjectVocabulary.world().find(question.text)[0].name
            assert (named in question.picture.scene.counts) is question.truth


def test_guarded_and_batched_questions_agree_where_there_is_no_guard(lvlm: LVLM) -> None:
    shown = list(pictures("development", 3))
    plain, guarded = compare_answers(lvlm, shown, GUARDS, sampled=False)
    assert plain.values == world_pope(lvlm, shown)
    assert plain.differences == {}
    assert set(guarded.differences) == {"random", "popular", "adversarial"}
    for kind, difference in guarded.differences.items():
        assert difference.value == pytest.approx(guarded.values[kind]["accuracy"] - plain.values[kind]["accuracy"])
    sampled = compare_answers(lvlm, shown, {"nothing": (None, None)}, sampled=True)
    assert sampled[0].sampled
    assert sampled[0].values["random"]["questions"] == 6
