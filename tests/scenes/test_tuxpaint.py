"""Photo cut-outs."""

from __future__ import annotations

import pytest

from saliency_guard.scenes import tuxpaint
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.scenes.sprites import SPRITE_SIZE, drawable, load_style
from saliency_guard.scenes.vocabulary import CLASSES


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
