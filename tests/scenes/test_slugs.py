"""Names of drawings in other icon sets."""

from __future__ import annotations

from saliency_guard.scenes.slugs import SLUGS, slugs
from saliency_guard.scenes.sprites import OTHER_STYLES, load_style
from saliency_guard.scenes.vocabulary import DRAWINGS


def test_a_name_of_the_set_s_own_comes_first_and_then_usual_spellings() -> None:
    assert slugs("mdi", "hot-beverage") == ("coffee", "hot-beverage", "hotbeverage", "hot-beverage-1")
    assert slugs("ph", "dog") == ("dog", "dog-1")
    assert slugs("noto", "hot-beverage") == ("hot-beverage",)


def test_every_name_is_of_a_drawing_that_the_sheet_has() -> None:
    known = {drawing for drawings in DRAWINGS.values() for drawing in drawings}
    for style, names in SLUGS.items():
        assert style in OTHER_STYLES
        assert set(names) <= known & set(load_style(style))
