from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saliency_guard.embedded.architecture import build_model
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training.data import TRAINING_SEEDS
from saliency_guard.training.features import FIRST_SEED, SHARD, Shard, make_shard, scene_picture, shards
from saliency_guard.training.pictures import picture_tensor
from saliency_guard.training.tokenizer import train_tokenizer


def test_a_shard_holds_what_the_tower_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(train_tokenizer(100)).eval()
    for kind in ("scenes", "blanks"):
        make_shard(model, Shard(tmp_path, kind, 0), size=5)
    found = shards(tmp_path, "scenes")
    assert [shard.number for shard in found] == [0]
    shard = found[0]
    scene, image, labels = scene_picture(shard.seeds[3])
    with torch.inference_mode():
        seen = model.model.vision_tower(picture_tensor(image)[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(shard.features[3], seen, atol=0.05, rtol=0.01)
    assert (shard.patches[3] == labels).all()
    assert {CLASSES[label] for label in labels if label < len(CLASSES)} <= set(scene.counts)
    assert (shards(tmp_path, "blanks")[0].patches == len(CLASSES)).all()
    assert not list(tmp_path.glob("*.part"))


def test_a_shard_that_is_cut_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(train_tokenizer(100)).eval()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        make_shard(model, Shard(tmp_path, "scenes", 0), size=2)
    assert shards(tmp_path, "scenes") == []


def test_pictures_are_none_that_the_tower_was_trained_on() -> None:
    """The tower saw 5,400 batches of 48 from the first training seed on."""
    assert FIRST_SEED > TRAINING_SEEDS + 5400 * 48
    assert Shard(Path(), "scenes", 1).seeds == range(FIRST_SEED + SHARD, FIRST_SEED + 2 * SHARD)
