"""The drawings of every style."""

from __future__ import annotations

import numpy as np
import pytest

from saliency_guard.scenes.sprites import LINE_STYLES, OTHER_STYLES, SPRITE_SIZE, STYLES, drawable, load_style
from saliency_guard.scenes.vocabulary import (
    CLASSES,
    DRAWINGS,
    EXCLUDED,
)


def test_every_style_has_what_it_may_show() -> None:
    for style in (*STYLES, *OTHER_STYLES):
        sprites = load_style(style)
        assert all(sprite.size == (SPRITE_SIZE, SPRITE_SIZE) and sprite.mode == "RGBA" for sprite in sprites.values())
        assert not {name for excluded, name in EXCLUDED if excluded == style} & set(sprites)
    assert len(CLASSES) >= 60
    assert sum(all(any(d in load_style(s) for s in STYLES) for d in DRAWINGS[c]) for c in CLASSES) >= 60
    with pytest.raises(FileNotFoundError, match="noto"):
        load_style("no such style")


def test_styles_for_training_alone_have_most_classes_and_lines_are_black_on_white() -> None:
    assert not set(STYLES) & set(OTHER_STYLES)
    assert all(len(drawable(style)) > len(CLASSES) / 2 for style in OTHER_STYLES)
    for style in LINE_STYLES:
        pixels = np.asarray(load_style(style)["bicycle"])
        shown = pixels[pixels[..., 3] > 200]
        assert (shown[:, :3] == shown[:, :1]).all()
        assert (shown[:, 0] < 60).mean() > 0.2, "ink"
        assert (shown[:, 0] > 200).mean() > 0.05, "paper"
        assert (pixels[..., 3] > 0).mean() < 0.95, "cut out"
