"""Facts about a model from its config and processor alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from saliency_guard import LVLM, ModelError
from saliency_guard.cli.describe import describe_model
from saliency_guard.embedded import EMBEDDED_PATH


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED_PATH, tmp_path / "model"))


def test_the_facts_are_those_of_the_loaded_model(lvlm: LVLM) -> None:
    facts = describe_model("embedded")
    text = lvlm.model.config.get_text_config()
    assert facts["architecture"] == type(lvlm.model).__name__
    assert facts["parameters"] == lvlm.model.num_parameters()
    assert (facts["layers"], facts["target_layers"]) == (4, [2, 3])
    assert (facts["attention_heads"], facts["key_value_heads"]) == (text.num_attention_heads, text.num_key_value_heads)
    assert facts["image_tokens"] == 64
    assert facts["context_length"] == 2048
    assert facts["attention_kinds"] == {"full_attention": 4}
    assert all(facts[name] is True for name in ("saliency", "locore", "sgrs", "drafting"))
    assert "not supported" not in facts


def test_a_folder_without_weights_is_described(folder: Path) -> None:
    whole = describe_model(str(folder))
    (folder / "model.safetensors").unlink()
    assert describe_model(str(folder)) == whole


def test_a_folder_without_a_processor_has_the_other_facts(folder: Path) -> None:
    whole = describe_model(str(folder))
    for path in folder.iterdir():
        if path.name != "config.json":
            path.unlink()
    assert describe_model(str(folder)) == {**whole, "image_tokens": None}


def test_what_is_not_supported_is_said_with_the_reason(folder: Path) -> None:
    config = {"model_type": "blip-2", "image_text_hidden_size": 16}
    (folder / "config.json").write_text(json.dumps(config))
    facts = describe_model(str(folder))
    assert facts["saliency"] is facts["locore"] is facts["sgrs"] is facts["drafting"] is False
    assert facts["not supported"]


def test_a_model_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        describe_model("./nowhere")
