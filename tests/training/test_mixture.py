"""All kinds of training text: the same for the same seed, true, and without what is kept for evaluation."""

from __future__ import annotations

import random
from typing import Any

import pytest

from saliency_guard.scenes.scene import Scene, sample_scene
from saliency_guard.training import calls, forms, frames, several, single, statements
from saliency_guard.training.mixture import MIXTURE, part, shares
from saliency_guard.training.sheets import ASSISTANT, Sheet


def made_of(part_: Any, seed: int) -> tuple[list[Scene | None], Sheet]:
    rng = random.Random(seed)
    count = part_.pictures[seed % len(part_.pictures)]
    blank = part_.blank and seed % 7 == 0
    shown = [None if blank and k == 0 else sample_scene(seed * 10 + k) for k in range(count)]
    return shown, part_.make(shown, rng)


@pytest.mark.parametrize("part_", MIXTURE, ids=lambda part_: part_.name)
def test_a_seed_fixes_a_text_with_the_pictures_it_is_about(part_: Any) -> None:
    for seed in range(40):
        shown, made = made_of(part_, seed)
        assert made == made_of(part_, seed)[1]
        assert made.pictures == len(shown)
        assert made.prefix.startswith("<s>")
        assert made.branches
        for branch in made.branches:
            assert branch.prompt.endswith(f"\n{ASSISTANT}")
            assert branch.answer.strip() == branch.answer != ""
            assert all(0 <= start < stop <= len(branch.answer) for start, stop in branch.silent)


def test_shares_add_up_and_are_drawn() -> None:
    assert sum(each.share for each in MIXTURE) == pytest.approx(1.0)
    rng = random.Random(0)
    drawn = [part(rng)[1] for _ in range(4000)]
    for number, each in enumerate(MIXTURE):
        assert drawn.count(number) / 4000 == pytest.approx(each.share, abs=0.02)
    # Questions about one picture stay the most frequent kind: what the model sees is not to be lost.
    assert MIXTURE[0].share == max(each.share for each in MIXTURE)


def test_first_there_is_much_to_repeat() -> None:
    names = [each.name for each in MIXTURE]
    early, late = shares(early=True), shares()
    assert sum(early) == pytest.approx(1.0)
    assert sum(late) == pytest.approx(1.0)
    assert early[names.index("repeating")] > 0.2 > late[names.index("repeating")]
    assert early[0] / early[2] == pytest.approx(late[0] / late[2])


def test_what_is_kept_for_evaluation_is_never_trained_on() -> None:
    text = "\n".join(
        made.prefix + "\n" + "\n".join(branch.prompt + branch.answer for branch in made.branches)
        for each in MIXTURE
        for seed in range(150)
        for made in [made_of(each, seed)[1]]
    )
    kept = [
        "following claim correct",
        "True?\n",
        "Someone says",
        "Could there be",
        "Are any",
        "how many of them",
        "If you counted",
        "Point me to",
        "where should I look",
        "Tell me which image",
        "is in which picture",
        "Use this schema for your JSON",
        "is the material",
        "from the material",
        *(word.replace(" ", "_") for word in calls.UNSEEN_LOOKUPS),
        *("visible_things", "object_names", "image_caption", "image_description", '_where"', "position_of_"),
    ]
    for words in kept:
        assert words.lower() not in text.lower(), words
    # They are what the lists say.
    listed = str((statements.UNSEEN_ASKED, single.UNSEEN, several.UNSEEN_WHICH, forms.UNSEEN_TOLD))
    assert all(words.strip() in listed for words in kept[:12])
    assert all(line not in text for line in (*frames.UNSEEN_HEADS, *frames.UNSEEN_ORDERS))


def test_the_prompts_of_the_frameworks_are_for_evaluation() -> None:
    prompts = pytest.importorskip("llama_index.core.prompts.default_prompts")
    text = "\n".join(
        made.prefix + "".join(branch.prompt for branch in made.branches)
        for each in MIXTURE
        for seed in range(100)
        for made in [made_of(each, seed)[1]]
    )
    for template in (prompts.DEFAULT_TEXT_QA_PROMPT_TMPL, prompts.DEFAULT_REFINE_PROMPT_TMPL):
        sentences = [line for line in template.split("\n") if len(line) > 30 and "{" not in line and "---" not in line]
        assert sentences
        assert not any(sentence in text for sentence in sentences)


def test_where_a_thing_is_seen_from_another_is_asked_and_told_truly() -> None:
    rng = random.Random(1)
    seen = set()
    for seed in range(60):
        scene = sample_scene(seed)
        made = single.relation(scene, rng)
        if made is None:
            continue
        first, relation, second = single.RELATION.fullmatch(made.answer).groups()  # type: ignore[union-attr]
        places = {single.singular(thing.name): (thing.x, thing.y) for thing in scene.objects}
        axis = 0 if relation.startswith("to the") else 1
        before = places[first][axis] < places[second][axis]
        assert before == (relation in {"to the left of", "above"})
        assert first in made.question
        assert second in made.question
        seen.add(relation)
    assert seen == {"to the left of", "to the right of", "above", "below"}
