"""Questions about a picture alone: answers are true whatever the words of the question."""

from __future__ import annotations

import random
from collections import Counter

from saliency_guard.scenes import language
from saliency_guard.scenes.scene import Scene, SceneObject, sample_scene
from saliency_guard.training import single


def thing(name: str, x: float, y: float) -> SceneObject:
    return SceneObject(name, "", x, y, 0.2, 0.0, mirrored=False, tint=(1.0, 1.0, 1.0))


SCENE = Scene(0, "noto", "farm", (thing("dog", 0.1, 0.1), thing("dog", 0.1, 0.9), thing("apple", 0.9, 0.5)))
EMPTY = Scene(0, "noto", "farm", ())


def test_the_brief_caption_names_everything_in_one_order() -> None:
    mirrored = Scene(0, "noto", "farm", SCENE.objects[::-1])
    assert single.brief(SCENE) == single.brief(mirrored)
    assert "two dogs" in single.brief(SCENE)
    assert "an apple" in single.brief(SCENE)
    assert single.brief(EMPTY) == language.EMPTY


def test_a_region_holds_what_is_there() -> None:
    assert single.region(SCENE, "on the left") == "On the left, there are two dogs."
    assert single.region(SCENE, "at the top left") == "At the top left, there is a dog."
    assert single.region(SCENE, "in the center") == "There is nothing in the center."


def test_the_total_counts_all_objects() -> None:
    assert single.total(SCENE) == "There are three objects in the image."
    assert single.total(Scene(0, "noto", "farm", SCENE.objects[:1])) == "There is one object in the image."


def test_names_that_are_shown_and_not_are_alike_often() -> None:
    rng = random.Random(0)
    shown = [single.name_for(SCENE, rng) in SCENE.counts for _ in range(400)]
    assert 0.4 < sum(shown) / len(shown) < 0.6


def test_other_words_have_the_worlds_answers() -> None:
    rng = random.Random(1)
    checked = Counter()
    for _ in range(300):
        made = single.exchange(SCENE, rng)
        assert "{" not in made.question
        for name in ("dog", "apple"):
            forms = single.forms_of(name)
            for kind, wordings, answer in (
                ("presence", single.PRESENCE, language.presence(SCENE, name).answer),
                ("number", single.NUMBER, language.how_many(SCENE, name).answer),
                ("place", single.PLACE, language.where(SCENE, name).answer),
            ):
                if made.question in {wording.format(**forms) for wording in wordings}:
                    assert made.answer == answer
                    checked[kind] += 1
    assert min(checked[kind] for kind in ("presence", "number", "place")) > 3


def test_wordings_for_evaluation_are_not_trained_on() -> None:
    trained = {*single.PRESENCE, *single.NUMBER, *single.PLACE}
    assert not trained & {wording for wordings in single.UNSEEN.values() for wording in wordings}


def test_a_picture_of_nothing_is_answered_so() -> None:
    answers = {branch.answer for branch in single.one_picture(None, random.Random(0)).branches}
    assert answers == {language.CANNOT_SEE, language.CANNOT_TELL}


def test_a_chat_goes_on_from_what_was_said() -> None:
    rng = random.Random(2)
    scene = next(scene for seed in range(50) if len((scene := sample_scene(seed)).counts) > 3)
    for _ in range(30):
        made = single.follow_ups(scene, rng)
        assert made.prefix.count("ASSISTANT:") >= 1
        assert made.pictures == 1
        assert len(made.branches) >= 2
