from __future__ import annotations

import pytest

from saliency_guard.training.blanks import KINDS, blank_picture


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_fixes_a_picture_and_seeds_differ(kind: str) -> None:
    pictures = [blank_picture(seed, 96, kind) for seed in range(12)]
    assert all(picture.size == (96, 96) and picture.mode == "RGB" for picture in pictures)
    assert pictures[5].tobytes() == blank_picture(5, 96, kind).tobytes()
    assert len({picture.tobytes() for picture in pictures}) > 10


def test_all_kinds_are_drawn() -> None:
    named = {kind: {blank_picture(seed, 48, kind).tobytes() for seed in range(60)} for kind in KINDS}
    drawn = [blank_picture(seed, 48).tobytes() for seed in range(60)]
    assert all(any(picture in pictures for picture in drawn) for pictures in named.values())
