"""A run goes on where it stopped, and ends with a model that loads and takes several pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from saliency_guard import LVLM
from saliency_guard.embedded.architecture import CHAT_TEMPLATE, CONTEXT_LENGTH, build_model
from saliency_guard.training import tune as tune_module
from saliency_guard.training.growth import grown
from saliency_guard.training.shards import Shard, make_shard
from saliency_guard.training.tokenizer import train_tokenizer
from saliency_guard.training.train import save
from saliency_guard.training.tune import Tuning, begin, export, parameter_groups, tune


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("ancestor")
    torch.manual_seed(3)
    tokenizer = train_tokenizer(150)
    save(build_model(tokenizer), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pictures")
    for kind in ("scenes", "blanks"):
        make_shard(Shard(folder, kind, 0), size=16)
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few new tokens: what is tested is the run, not what it learns."""
    monkeypatch.setattr(tune_module, "_CORPUS", 30)
    monkeypatch.setattr(tune_module, "grown", lambda old, texts: grown(old, texts, 820))


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(ancestor: Path, pictures: Path, tmp_path: Path) -> None:
    tuning = Tuning(steps=4, decay=2, rows=4, tower_rate=0.5)
    tune(tuning, tmp_path / "whole", pictures, ancestor=ancestor, workers=0)
    whole = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)

    class Stop(Exception):  # noqa: N818 - a signal, no error
        pass

    saved, write = [], torch.save

    def save_and_stop(*arguments: object) -> None:
        if len(saved) == 2:
            raise Stop
        saved.append(1)
        write(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", save_and_stop)
        with pytest.raises(Stop):
            tune(tuning, tmp_path / "cut", pictures, ancestor=ancestor, workers=0, minutes_between_checkpoints=0.0)
    tune(tuning, tmp_path / "cut", pictures, ancestor=ancestor, workers=0)
    cut = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert whole["step"] == cut["step"] == 4
    for part in ("state", "mean"):
        for name, value in whole[part].items():
            torch.testing.assert_close(value, cut[part][name], rtol=0, atol=0)
    before = begin(ancestor, ancestor)[0].state_dict()
    name = "model.model.vision_tower.stages.0.0.weight"
    assert not torch.equal(whole["state"][name], before[name]), "the tower goes on"
    assert "model.model.vision_tower.stages.0.1.running_var" in whole["mean"]

    lvlm = LVLM.load(str(tmp_path / "cut" / "model"))
    assert lvlm.context_length == CONTEXT_LENGTH >= 2048
    assert lvlm.processor.chat_template == CHAT_TEMPLATE
    image = {"type": "image", "image": Image.new("RGB", (32, 32))}
    question = {"type": "text", "text": "Which picture shows a dog?"}
    answer = lvlm.generate([{"role": "user", "content": [image, image, question]}], max_new_tokens=3)
    assert {"image_0", "image_1"} <= set(answer.tokens[-1].shares)


def test_a_run_begins_with_what_the_earlier_model_knew(ancestor: Path, tmp_path: Path) -> None:
    follower, tokenizer = begin(ancestor, tmp_path / "tokenizer")
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "tokenizer")
    assert tokenizer.get_vocab() == again.get_vocab()
    before, _ = begin(ancestor, ancestor)
    old, new = before.model.state_dict(), follower.model.state_dict()
    size = len(PreTrainedTokenizerFast.from_pretrained(ancestor))
    assert len(tokenizer) == 820 > size
    for name, value in old.items():
        torch.testing.assert_close(new[name][:size] if value.shape != new[name].shape else new[name], value)
    assert follower.model.config.get_text_config().vocab_size == 820


def test_the_mean_is_exported_at_any_time(ancestor: Path, pictures: Path, tmp_path: Path) -> None:
    tune(Tuning(steps=1, decay=1, rows=4), tmp_path, pictures, ancestor=ancestor, workers=0)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    folder = export(tmp_path, ancestor, tmp_path / "elsewhere")
    for name, value in begin(ancestor, ancestor)[0].state_dict().items():
        if "vision_tower" in name:
            torch.testing.assert_close(state["state"][name], value, rtol=0, atol=0, msg="the tower stays as it is")
            assert name not in state["mean"]
    model = LVLM.load(str(folder)).model
    name = "model.language_model.layers.0.mlp.down_proj.weight"
    torch.testing.assert_close(model.state_dict()[name], state["mean"][f"model.{name}"], atol=1e-3, rtol=1e-2)


def test_the_tower_has_a_rate_of_its_own(ancestor: Path) -> None:
    follower, _ = begin(ancestor, ancestor)
    tower = {id(parameter) for parameter in follower.model.model.vision_tower.parameters()}
    groups = parameter_groups(follower, Tuning(tower_rate=0.25, weight_decay=0.5))
    assert sum(len(group["params"]) for _, group in groups) == len(list(follower.parameters()))
    for rate, group in groups:
        assert {id(parameter) in tower for parameter in group["params"]} == {rate == 0.25}
        assert {parameter.ndim >= 2 for parameter in group["params"]} == {group["weight_decay"] == 0.5}


def test_the_rate_warms_up_stays_and_falls() -> None:
    tuning = Tuning(steps=1000, decay=100, learning_rate=1.0)
    rates = [tuning.learning_rate_at(step) for step in (0, 99, 500, 899, 950, 999)]
    assert rates == pytest.approx([0.01, 1.0, 1.0, 1.0, 0.5, 0.01])
