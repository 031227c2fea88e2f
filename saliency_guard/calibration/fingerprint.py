"""What a calibration belongs to: the model, its weights, its prompt template and how its answers were looked at."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from transformers import PreTrainedModel

from saliency_guard.calibration.features import FEATURES_VERSION
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.settings import Frozen

_SAMPLES = 64


class Fingerprint(Frozen):
    """Everything a calibrated number depends on; two that differ in any field do not belong together.

    Attributes:
        model_id: what the model is called.
        weights: digest of names, shapes and a sample of the values of all parameters.
        dtype: of the weights.
        template: digest of the chat template.
        saliency: the saliency configuration.
        features_version: of the signals.
    """

    model_id: str
    weights: str
    dtype: str
    template: str
    saliency: SaliencyConfig
    features_version: int = FEATURES_VERSION

    def differing(self, other: Fingerprint) -> list[str]:
        """Names of the fields that differ. What a model is called is no difference where its weights are known."""
        fields = [name for name in type(self).model_fields if name != "model_id"]
        return [name for name in fields if getattr(self, name) != getattr(other, name)]


def fingerprint(model: PreTrainedModel, processor: Any, model_id: str, saliency: SaliencyConfig) -> Fingerprint:
    """The fingerprint of a model and its processor under one saliency configuration."""
    return Fingerprint(
        model_id=model_id,
        weights=weights_digest(model),
        dtype=str(model.dtype).removeprefix("torch."),
        template=_digest(repr(getattr(processor, "chat_template", None)).encode()),
        saliency=saliency,
    )


def weights_digest(model: PreTrainedModel) -> str:
    """Digest of every parameter's name, shape and 64 of its values: quick for large models, other weights differ."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        step = max(1, flat.numel() // _SAMPLES)
        sample = flat[::step][:_SAMPLES].to("cpu").contiguous().view(torch.uint8)
        digest.update(f"{name} {tuple(parameter.shape)} ".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
