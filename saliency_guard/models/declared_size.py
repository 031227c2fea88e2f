"""Whether a folder's config asks for a model of the size of its weights.

transformers makes up what the weights do not have, and takes the memory for it: a stranger's config of a few lines
could ask for all there is.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, PretrainedConfig

from saliency_guard.errors import ModelError

_PER_BYTE = 4
_PER_BYTE_QUANTIZED = 16
"""Numbers for each byte of the weights: more than any format holds, since some are stored once and used twice."""
_FREE = 2**26


def require_weights(config: PretrainedConfig, folder: Path) -> None:
    """Build a config's model without memory, and compare its size with that of the weights.

    Args:
        config: of a model of transformers' own kinds.
        folder: with its safetensors; nothing is said of other files.

    Raises:
        ModelError: if the model has many more numbers than the weights can hold.
    """
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if not held:
        return
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    numbers = sum(tensor.numel() for tensor in chain(model.parameters(), model.buffers()))
    most = held * (_PER_BYTE_QUANTIZED if hasattr(config, "quantization_config") else _PER_BYTE) + _FREE
    if numbers > most:
        msg = (
            f"{folder}: config.json asks for a model of {numbers / 1e6:,.0f} million numbers, and the weights beside "
            f"it ({held / 1e6:,.0f} MB) cannot hold so many"
        )
        raise ModelError(msg)
