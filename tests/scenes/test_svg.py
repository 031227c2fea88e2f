"""SVG to pixels."""

from __future__ import annotations

import sys

import pytest

from saliency_guard.errors import MissingExtraError
from saliency_guard.scenes.svg import svg_picture

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="5" height="10" fill="#f00"/></svg>'


def test_a_drawing_fills_the_square_and_the_rest_is_transparent() -> None:
    picture = svg_picture(SVG, 32, extra="sprites")
    assert (picture.size, picture.mode) == ((32, 32), "RGBA")
    assert picture.getpixel((4, 16)) == (255, 0, 0, 255)
    assert picture.getpixel((28, 16))[3] == 0


def test_without_the_renderer_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingExtraError, match=r"saliency-guard\[unseen\]"):
        svg_picture(SVG, 32, extra="unseen")
