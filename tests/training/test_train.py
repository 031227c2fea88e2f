"""The training script runs, goes on where it stopped, and ends with a model that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saliency_guard import LVLM
from saliency_guard.embedded.architecture import build_model
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.training.tokenizer import train_tokenizer
from saliency_guard.training.train import Recipe, inherit, save, train


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    recipe = Recipe(vision_steps=2, steps=4, batch_size=2)
    state = {}
    for minutes in (0.0, 4.0):  # 0: a checkpoint at every step
        folder = tmp_path / f"every-{minutes}"
        train(recipe, folder, device="cpu", minutes_between_checkpoints=minutes)
        state[minutes] = torch.load(folder / "checkpoint.pt", weights_only=True)["trainee"]
    cut = tmp_path / "cut"
    _stop_after(recipe, cut, steps=2)
    train(recipe, cut, device="cpu")
    again = torch.load(cut / "checkpoint.pt", weights_only=True)["trainee"]
    for name, value in state[4.0].items():
        assert torch.equal(value, state[0.0][name])
        torch.testing.assert_close(value, again[name], rtol=0, atol=0)
    lvlm = LVLM.load(cut / "model")
    message = {"role": "user", "content": [{"type": "image", "image": render(sample_scene(1), 128).image}]}
    assert len(lvlm.generate([message], max_new_tokens=3).tokens) <= 3


def test_a_run_takes_over_what_fits_of_an_earlier_model(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(200)
    torch.manual_seed(0)
    before, after = build_model(tokenizer), build_model(tokenizer)
    save(before, tokenizer, tmp_path)
    name = "model.language_model.layers.0.mlp.down_proj.weight"
    assert not torch.allclose(after.state_dict()[name], before.state_dict()[name].float(), atol=1e-2)
    assert inherit(after, tokenizer.get_vocab(), tmp_path) == []
    torch.testing.assert_close(after.state_dict()[name], before.state_dict()[name].float(), atol=1e-3, rtol=1e-2)
    with pytest.raises(ValueError, match="another vocabulary"):
        inherit(after, {"a": 0}, tmp_path)


def _stop_after(recipe: Recipe, folder: Path, *, steps: int) -> None:
    """A run that dies after a checkpoint at ``steps``."""

    class Stop(Exception):  # noqa: N818 - a signal, no error
        pass

    count = 0
    save = torch.save

    def save_and_stop(*arguments: object, **keywords: object) -> None:
        nonlocal count
        count += 1
        save(*arguments, **keywords)
        if count > steps:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", save_and_stop)
        with pytest.raises(Stop):
            train(recipe, folder, device="cpu", minutes_between_checkpoints=0.0)
