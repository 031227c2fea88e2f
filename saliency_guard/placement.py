"""On which device a model works: where its weights are, or, where they are brought in for each pass, where they go."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from saliency_guard.errors import ModelError


def working_device(model: Any) -> torch.device:
    """The device that a model's inputs belong on.

    Args:
        model: of transformers; its weights may be offloaded to memory or disk as a whole (``device_map``).

    Raises:
        ModelError: if it has no weights at all.
    """
    device: torch.device = model.device
    if device.type != "meta":
        return device
    module: nn.Module
    for module in model.modules():  # accelerate keeps where it brings the weights on a hook of each module.
        target = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if target is not None:
            return torch.device(target)
    msg = f"{type(model).__name__} has no weights (they are on the device 'meta'): load them"
    raise ModelError(msg)
