from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from saliency_guard import LVLM, InputError, LocoREConfig, SGRSConfig
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.evidence import mitigation_section, replace_section, table
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.mitigation import AnswersResult, compare, compare_answers, world_pope, world_questions
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


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("top\n<!-- begin a -->\nold\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\n")
    replace_section(page, "a", "new")
    replace_section(page, "a", "newer")
    assert page.read_text() == (
        "top\n<!-- begin a -->\n\nnewer\n\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\n"
    )
    with pytest.raises(InputError, match="no section 'c'"):
        replace_section(page, "c", "x")
    with pytest.raises(InputError, match="cannot read"):
        replace_section(tmp_path / "missing.md", "a", "x")


def test_tables_are_markdown(lvlm: LVLM) -> None:
    assert table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    results, _ = compare(lvlm, list(pictures("development", 2)), GUARDS, sampled=True, max_new_tokens=8)
    answers = [
        AnswersResult(
            guard="nothing", sampled=True, values={"random": {"accuracy": 0.5, "f1": math.nan}}, differences={}
        )
    ]
    text = mitigation_section(
        results, results[:1], answers, "the command", model="m", split="development", pictures=(2, 2, 1)
    )
    assert "| nothing, sampled |" in text
    assert "the command" in text
    assert "0.500 (nan)" in text
    assert np.isfinite(results[0].values["recall"])
