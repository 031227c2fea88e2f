from __future__ import annotations

import random

from saliency_guard.scenes.scene import Scene, SceneObject
from saliency_guard.training import several


def scene_of(*names: str) -> Scene:
    things = [SceneObject(name, "", 0.1, 0.5, 0.2, 0.0, mirrored=False, tint=(1.0, 1.0, 1.0)) for name in names]
    return Scene(0, "noto", "farm", tuple(things))


FIRST, SECOND, THIRD = scene_of("dog", "cat", "dog"), scene_of("apple", "dog"), scene_of("bus")


def test_which_picture_shows_a_thing() -> None:
    assert several.which([FIRST, SECOND, THIRD], "dog") == "Pictures 1 and 2 show a dog."
    assert several.which([FIRST, SECOND, THIRD], "bus") == "Picture 3 shows a bus."
    assert several.which([FIRST, None, THIRD], "apple") == "No picture shows an apple."
    assert several.anywhere([FIRST, SECOND], "apple").answer == "Yes, picture 2 shows an apple."
    assert several.anywhere([FIRST, SECOND], "bus").answer == "No, no picture shows a bus."


def test_what_each_shows_and_all_show() -> None:
    assert several.each([FIRST, None, scene_of()]) == (
        "Picture 1 shows a cat and two dogs. I can not tell what picture 2 shows. Picture 3 is empty."
    )
    assert several.common([FIRST, SECOND]) == "All pictures show a dog."
    assert several.common([FIRST, SECOND, THIRD]) == "The pictures have nothing in common."


def test_how_two_differ() -> None:
    assert several.difference([FIRST, SECOND], 1, 2) == "Only picture 1 shows a cat. Only picture 2 shows an apple."
    assert several.difference([FIRST, FIRST], 1, 2) == "Pictures 1 and 2 show the same."


def test_one_of_them() -> None:
    shown = [FIRST, SECOND]
    assert several.present(shown, 1, "dog").answer == "Yes, there are two dogs in picture 1."
    assert several.present(shown, 2, "cat").answer == "No, there is no cat in picture 2."
    assert several.how_many(shown, 1, "dog").answer == "There are two dogs in picture 1."
    assert several.where(shown, 2, "apple").answer == "In picture 2, the apple is on the left."


def test_pictures_come_in_every_way_people_send_them() -> None:
    texts = {several.several([FIRST, SECOND, THIRD], random.Random(seed)).prefix for seed in range(60)}
    assert any(text.startswith("<s>USER: Picture 1: <image>\nPicture 2: <image>\nPicture 3: <image>") for text in texts)
    assert any("</s>\nUSER: Picture 2: <image>" in text for text in texts)
    assert any("Photo:Picture 1: <image>" in text for text in texts)
