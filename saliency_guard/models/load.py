"""From a name to a model and its processor, by transformers' own loaders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from saliency_guard.embedded import vision_tower  # noqa: F401 - makes the embedded model's tower known to transformers
from saliency_guard.errors import ConfigError, ModelError

_HUB = ("token", "cache_dir", "local_files_only", "trust_remote_code")


def load_pretrained(
    source: str | os.PathLike[str],
    device: str | torch.device | None,
    dtype: str | torch.dtype,
    version: Mapping[str, str | None],
    from_pretrained: Mapping[str, Any],
) -> tuple[PreTrainedModel, Any]:
    """Load a model, in inference mode, and its processor.

    Args:
        source: a local folder, or a hub id.
        device: where to put it; None is a GPU if there is one, else the CPU.
        dtype: a torch dtype, its name, or ``"auto"``.
        version: ``{"revision": ...}``; None is the newest.
        from_pretrained: further arguments for the model; those about the hub go to the processor, too.

    Raises:
        ConfigError: if there is no such dtype.
        ModelError: if there is no such model, or it is no image-text-to-text model.
    """
    shared = {name: value for name, value in version.items() if value is not None}
    hub = {name: from_pretrained[name] for name in _HUB if name in from_pretrained}
    if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        msg = f"dtype must be 'auto', a torch dtype or its name, not {dtype!r}"
        raise ConfigError(msg)
    try:
        processor = AutoProcessor.from_pretrained(source, **shared, **hub)
        loaded = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **shared, **from_pretrained)
        if device is not None or "device_map" not in from_pretrained:
            target = device or ("cuda" if torch.cuda.is_available() else "cpu")
            loaded = loaded.to(target)  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, ImportError, RuntimeError, AssertionError) as error:
        msg = f"cannot load {source!s} as an image-text-to-text model: {error}"
        raise ModelError(msg) from error
    return loaded.eval(), processor
