from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saliency_guard.scenes.sprites import OTHER_STYLES, STYLES
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training.data import TRAINING_SEEDS
from saliency_guard.training.pictures import resized
from saliency_guard.training.shards import (
    FIRST_SEED,
    SHARD,
    Shard,
    main,
    make_shard,
    scene_picture,
    shards,
    training_scene,
)


def test_a_shard_holds_the_pictures_of_its_seeds_and_their_labels(tmp_path: Path) -> None:
    for kind in ("scenes", "blanks"):
        make_shard(Shard(tmp_path, kind, 0), size=5)
    complete = shards(tmp_path, "scenes")
    assert [shard.number for shard in complete] == [0]
    shard = complete[0]
    scene, image, labels = scene_picture(shard.seeds[3])
    np.testing.assert_array_equal(shard.pixels[3], resized(image))
    assert (shard.patches[3] == labels).all()
    assert {CLASSES[label] for label in labels if label < len(CLASSES)} <= set(scene.counts)
    assert (shards(tmp_path, "blanks")[0].patches == len(CLASSES)).all()
    assert not list(tmp_path.glob("*.part"))


def test_a_shard_that_is_cut_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, written = np.save, []

    def stop(file: Any, values: Any) -> None:
        save(file, values)
        written.append(file)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        make_shard(Shard(tmp_path, "scenes", 0), size=2)
    assert shards(tmp_path, "scenes") == []


def test_the_command_makes_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_shard(Shard(tmp_path, "scenes", 0), size=1)
    monkeypatch.setattr("saliency_guard.training.shards.ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr("saliency_guard.training.shards.make_shard", lambda shard: make_shard(shard, size=1))
    monkeypatch.setattr(sys, "argv", ["shards", "--out", str(tmp_path), "--scenes", "2"])
    main()
    made = [Path(line).name for line in capsys.readouterr().out.split()]
    assert made == ["blanks-00000-pixels.npy", "scenes-00001-pixels.npy"]


def test_pictures_are_none_that_the_tower_was_first_trained_on() -> None:
    """The tower saw 5,400 batches of 48 from the first training seed on."""
    assert FIRST_SEED > TRAINING_SEEDS + 5400 * 48
    assert Shard(Path(), "scenes", 1).seeds == range(FIRST_SEED + SHARD, FIRST_SEED + 2 * SHARD)


def test_scenes_come_in_all_styles_and_in_those_of_the_drawn_world_most() -> None:
    styles = Counter(training_scene(seed).style for seed in range(600))
    assert set(styles) == {*STYLES, *OTHER_STYLES}
    assert sum(styles[style] for style in STYLES) > 0.55 * 600
