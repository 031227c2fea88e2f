"""The identifier of a model's weights."""

from __future__ import annotations

from pathlib import Path

from saliency_guard import LVLM
from saliency_guard.embedded import EMBEDDED
from saliency_guard.engines.weights import model_settings, weights_of


def test_weights_have_a_name_that_changes_with_them(lvlm: LVLM, tmp_path: Path) -> None:
    shipped = weights_of(EMBEDDED, lvlm)
    assert len(shipped) == 16
    assert weights_of(EMBEDDED, lvlm) == shipped
    (tmp_path / "model.safetensors").write_bytes(b"one")
    one = weights_of(str(tmp_path), lvlm)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert len({shipped, one, weights_of(str(tmp_path), lvlm)}) == 3


def test_settings_tell_models_apart(lvlm: LVLM) -> None:
    settings = model_settings(lvlm, model=EMBEDDED)
    assert settings == {
        "model": EMBEDDED,
        "weights": weights_of(EMBEDDED, lvlm),
        "dtype": "torch.float32",
        "quantization": None,
    }
