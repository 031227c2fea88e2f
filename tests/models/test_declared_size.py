"""A config that asks for more than its weights hold is refused before there is memory for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from saliency_guard import LVLM, SaliencyGuardError
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.errors import ModelError
from saliency_guard.models.declared_size import require_weights


def changed(folder: Path, **text: Any) -> Path:
    """A copy of the embedded model whose config says something else of its language model."""
    shutil.copytree(EMBEDDED_PATH, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= text
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "text",
    [{"num_hidden_layers": 999}, {"intermediate_size": 2**24}, {"vocab_size": 2**24}],
    ids=lambda text: next(iter(text)),
)
def test_a_config_that_asks_for_too_much_is_refused(tmp_path: Path, text: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=r"config.json asks for a model of [\d,]+ million numbers"):
        LVLM.load(changed(tmp_path / "model", **text))


def test_more_layers_than_any_model_has_are_not_even_built(tmp_path: Path) -> None:
    with pytest.raises(SaliencyGuardError, match="which no model has"):
        LVLM.load(changed(tmp_path / "model", num_hidden_layers=1001))


@pytest.mark.parametrize("name", list(tiny.BUILDERS))
def test_models_with_their_weights_are_not(name: str, tmp_path: Path) -> None:
    model = tiny.build(name).model
    require_weights(model.config, tmp_path)  # Without weights to compare with nothing is said.
    model.save_pretrained(tmp_path)
    require_weights(model.config, tmp_path)
