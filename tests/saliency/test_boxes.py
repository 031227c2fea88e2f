"""Boxes around what is looked at: by hand, and on scenes whose objects have known places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.world import PICTURE_SIZE, pictures
from saliency_guard.saliency.boxes import blobs, box_of
from saliency_guard.scenes.claims import class_names
from saliency_guard.scenes.scene import render


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["##.", "...", "..#"], [[0, 1], [8]]),
        (["#..", ".#.", "..#"], [[0], [4], [8]]),  # Corners do not touch.
        (["###", "#.#", "###"], [[0, 1, 2, 3, 5, 6, 7, 8]]),
        (["...", "...", "..."], []),
    ],
)
def test_parts_that_touch(rows: list[str], parts: list[list[int]]) -> None:
    assert blobs(torch.tensor([[patch == "#" for patch in row] for row in rows])) == parts


def grid(rows: int, columns: int, left: float = 0.0, right: float = 1.0) -> list[tuple[float, float, float, float]]:
    width = (right - left) / columns
    return [
        (left + column * width, row / rows, left + (column + 1) * width, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]


def test_the_box_is_around_the_strongest_patch_and_what_touches_it() -> None:
    looks = torch.zeros(4, 4)
    looks[1, 1], looks[1, 2], looks[2, 2] = 1.0, 0.6, 0.5
    looks[3, 0] = 0.9  # Strong, but elsewhere.
    looks[0, 1] = 0.4  # Beside it, but weak.
    assert box_of(looks.flatten(), grid(4, 4)) == (0.25, 0.25, 0.75, 0.75)
    assert box_of(looks.flatten(), grid(4, 4), part=0.3) == (0.25, 0.0, 0.75, 0.75)
    # Of a picture of which the model sees the middle half alone.
    assert box_of(looks.flatten(), grid(4, 4, 0.25, 0.75)) == (0.375, 0.25, 0.625, 0.75)


def test_positions_that_show_nothing_are_in_no_box() -> None:
    patches = [*grid(1, 2), None]  # A row and its end.
    assert box_of(torch.tensor([0.1, 0.4, 0.9]), patches) == (0.5, 0.0, 1.0, 1.0)


def test_a_tile_joins_the_patches_of_the_whole_that_it_lies_in() -> None:
    patches = [(0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0), (0.25, 0.25, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5)]
    assert box_of(torch.tensor([0.9, 0.8, 1.0, 0.2]), patches) == (0.0, 0.0, 0.5, 0.5)


@pytest.mark.parametrize("looks", [torch.zeros(4), torch.tensor([1.0, float("nan"), 0.0, 0.0])])
def test_where_nothing_is_known_there_is_no_box(looks: torch.Tensor) -> None:
    assert box_of(looks, grid(2, 2)) is None
    assert box_of(torch.ones(2), [None, None]) is None


def test_boxes_of_true_claims_are_where_the_objects_are(lvlm: LVLM) -> None:
    hits: list[bool] = []
    areas: list[float] = []
    for shown in pictures("development", 10):
        drawn = render(shown.scene, PICTURE_SIZE)
        answer = lvlm.generate(chat(shown.image, "Describe the image in detail."), max_new_tokens=60)
        for claim in answer.claims:
            name = class_names().get(claim.noun)
            places = [
                np.array(drawn.box(index)) / PICTURE_SIZE
                for index, thing in enumerate(shown.scene.objects)
                if thing.name == name
            ]
            if claim.kind != "object" or not places or claim.negated:
                assert claim.box is None or claim.kind == "object"
                continue
            assert claim.box is not None
            left, top, right, bottom = claim.box
            assert 0.0 <= left < right <= 1.0
            assert 0.0 <= top < bottom <= 1.0
            x, y = (left + right) / 2, (top + bottom) / 2
            hits.append(any(a <= x <= c and b <= y <= d for a, b, c, d in places))
            areas.append(min(1.0, sum((c - a) * (d - b) for a, b, c, d in places)))
    assert len(hits) > 15
    assert np.mean(hits) > 0.85
    assert np.mean(areas) < 0.3  # By chance it would be as often as this.
