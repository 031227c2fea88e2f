"""The drawings of every style."""

from __future__ import annotations

import pytest

from saliency_guard.scenes.sprites import SPRITE_SIZE, STYLES, load_style
from saliency_guard.scenes.vocabulary import (
    CLASSES,
    DRAWINGS,
    EXCLUDED,
)


def test_every_style_has_what_it_may_show() -> None:
    for style in STYLES:
        sprites = load_style(style)
        assert all(sprite.size == (SPRITE_SIZE, SPRITE_SIZE) and sprite.mode == "RGBA" for sprite in sprites.values())
        assert not {name for excluded, name in EXCLUDED if excluded == style} & set(sprites)
    assert len(CLASSES) >= 60
    assert sum(all(any(d in load_style(s) for s in STYLES) for d in DRAWINGS[c]) for c in CLASSES) >= 60
    with pytest.raises(FileNotFoundError, match="noto"):
        load_style("no such style")
