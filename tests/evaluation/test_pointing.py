"""The pointing game: on maps made by hand, against a brute-force look at every patch; and on a few real scenes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.pointing import (
    PointedTable,
    box_hit,
    boxes_of,
    collect,
    points,
    several_questions,
    single_questions,
)
from saliency_guard.evaluation.pointing_maps import CHANCE, COMBINED
from saliency_guard.evaluation.world import PICTURE_SIZE
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.scene import render


@pytest.fixture(scope="module")
def pointed(lvlm: LVLM) -> PointedTable:
    return collect(lvlm, single_questions("development", 6), max_new_tokens=40)


@pytest.mark.parametrize("seed", range(8))
def test_peak_and_mass_are_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, 4, 9).astype(np.float64)  # Few values: there are ties.
    inside = rng.random(9) < 0.4
    largest = max(values)
    tops = [index for index in range(9) if values[index] == largest]
    hits = sum(1 for index in tops if inside[index])
    positive = [max(0.0, value) for value in values]
    mass = sum(value for value, there in zip(positive, inside, strict=True) if there) / sum(positive)
    assert points(values, inside) == (pytest.approx(hits / len(tops)), pytest.approx(mass))


def test_a_map_of_zeros_is_chance_and_an_unknown_one_is_unknown() -> None:
    inside = np.array([True, False, False, False])
    assert points(np.zeros(4), inside) == (0.25, 0.25)
    assert np.isnan(points(np.array([1.0, np.nan, 0.0, 0.0]), inside)).all()


def test_boxes_are_hit_by_their_centre_and_overlap() -> None:
    objects = [(0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)]
    assert box_hit((0.0, 0.0, 0.5, 0.25), objects) == (1.0, pytest.approx(0.5))
    assert box_hit((0.5, 0.0, 1.0, 0.5), objects) == (0.0, 0.0)
    assert box_hit((0.25, 0.25, 0.75, 0.75), objects[:1]) == (1.0, pytest.approx(0.0625 / (0.5 - 0.0625)))
    assert np.isnan(box_hit(None, objects)).all()


def test_places_are_those_of_the_visible_pixels() -> None:
    (shown,) = single_questions("development", 1)
    owners = render(shown.scene, PICTURE_SIZE).owners
    for name in shown.scene.counts:
        expected = []
        for index, thing in enumerate(shown.scene.objects):
            if thing.name == name:
                rows, columns = np.nonzero(owners == index + 1)
                edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                expected.append(tuple(edge / PICTURE_SIZE for edge in edges))
        assert boxes_of(shown.scene, name) == expected


def test_every_true_mention_is_a_row(lvlm: LVLM, pointed: PointedTable) -> None:
    expected = []
    for shown in single_questions("development", 6):
        text = lvlm.generate(chat(shown.pictures[0].image, DESCRIBE), max_new_tokens=40).text
        mentions = ObjectVocabulary.world().find(text)
        expected += [shown.scene.seed for mention in mentions if mention.name in shown.scene.counts]
    assert pointed.scene.tolist() == expected
    assert not pointed.given.any()
    names = pointed.maps.tolist()
    chance = pointed.peak[:, names.index(CHANCE)]
    np.testing.assert_allclose(chance, pointed.mass[:, names.index(CHANCE)])
    assert (chance > 0.0).all()
    assert chance.mean() < 0.3
    assert pointed.peak[:, names.index(COMBINED)].mean() > 0.8
    assert (pointed.right == 1.0).all()
    assert np.isfinite(pointed.box[:, 0]).any()


def test_of_a_scene_that_is_not_named_a_true_caption_is_looked_at(lvlm: LVLM) -> None:
    table = collect(lvlm, single_questions("development", 2), max_new_tokens=1)  # Too short to name anything.
    assert len(table) > 0
    assert table.given.all()
    assert len(set(table.scene.tolist())) == 2


def test_of_several_pictures_the_one_that_is_asked_about_is_right(lvlm: LVLM) -> None:
    questions = list(several_questions("development", 1, skipped=3))
    assert [len(shown.pictures) for shown in questions] == [2, 3, 4]
    singles = {shown.scene.seed for shown in single_questions("development", 3)}
    assert singles.isdisjoint(picture.scene.seed for shown in questions for picture in shown.pictures)
    table = collect(lvlm, questions, max_new_tokens=40)
    chance = table.maps.tolist().index(CHANCE)
    parts = {shown.scene.seed: 1 / len(shown.pictures) for shown in questions}
    np.testing.assert_allclose(table.right[:, chance], [parts[seed] for seed in table.scene.tolist()])
    assert (table.peak <= table.right + 1e-9).all()


def test_a_table_comes_back_from_disk(pointed: PointedTable, tmp_path: Path) -> None:
    pointed.save(tmp_path / "pointed.npz")
    again = PointedTable.load(tmp_path / "pointed.npz")
    for field in fields(PointedTable):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(pointed, field.name))
