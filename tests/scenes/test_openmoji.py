"""The unseen drawing style."""

from __future__ import annotations

from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes import openmoji, tuxpaint
from saliency_guard.scenes.sprites import SPRITE_SIZE, STYLES, drawable, load_style
from saliency_guard.scenes.vocabulary import DRAWINGS, EXCLUDED


def test_the_unseen_style_is_no_training_style() -> None:
    assert not {openmoji.NAME, tuxpaint.NAME} & set(STYLES)
    sprites = load_style(openmoji.NAME)
    assert all(sprite.size == (SPRITE_SIZE, SPRITE_SIZE) and sprite.mode == "RGBA" for sprite in sprites.values())
    assert set(sprites) == {
        drawing for names in DRAWINGS.values() for drawing in names if (openmoji.NAME, drawing) not in EXCLUDED
    }
    assert len(drawable(openmoji.NAME)) >= 60
    assert all(picture.scene.style == openmoji.NAME for picture in pictures("openmoji", 3))
