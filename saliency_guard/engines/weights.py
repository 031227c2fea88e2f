"""Which weights a model has: what is written beside results, so that a run goes on only with the same ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from saliency_guard.embedded import EMBEDDED, EMBEDDED_PATH
from saliency_guard.lvlm import LVLM


def weights_of(model: str, lvlm: LVLM) -> str:
    """An identifier of the weights: a commit of the hub, or a hash of a folder's files."""
    commit = getattr(lvlm.model.config, "_commit_hash", None)
    folder = EMBEDDED_PATH if model == EMBEDDED else Path(model)
    if commit or not folder.is_dir():
        return str(commit)
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def model_settings(lvlm: LVLM, *, model: str) -> dict[str, str | None]:
    """What tells a loaded model from others: its name, its weights and their precision."""
    method = getattr(lvlm.model, "quantization_method", None)
    return {
        "model": model,
        "weights": weights_of(model, lvlm),
        "dtype": str(lvlm.model.dtype),
        "quantization": str(method) if method is not None else None,
    }
