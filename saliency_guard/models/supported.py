"""Which models cannot be read, and why: said before anything runs, so that none is scored wrongly."""

from __future__ import annotations

import inspect

from torch import nn
from transformers import PreTrainedModel

from saliency_guard.errors import UnsupportedModelError
from saliency_guard.models.layers import across_layers

_ACROSS = ("crossattn", "crossattention")

_BY_NAME = {
    "diffusion_gemma": "it writes blocks of tokens by diffusion, not token after token",
    "pi0": "it writes actions, not tokens",
    "kosmos-2": "it wants the picture at every step, and so cannot be continued from its keys and values "
    "(model.generate(..., custom_generate=sgrs_generate) works)",
}
"""Families refused by name: model type -> reason."""


def refusal(model: PreTrainedModel) -> str | None:
    """Why a model cannot be read; None where nothing speaks against it."""
    if model.config.is_encoder_decoder:
        return "it has an encoder and a decoder: only causal decoders are supported"
    # Weights that are brought in for each pass leave a place holder behind, which may have been made in any mode.
    if any(parameter.is_inference() and parameter.device.type != "meta" for parameter in model.parameters()):
        return "its weights were made under torch.inference_mode(), and no gradient goes through such: load it outside"
    decoder = model.get_decoder()
    quantized = next((name for name, module in decoder.named_modules() if _is_quantized(module)), None)
    if quantized is not None:
        return (
            f"{quantized} is quantised together with what goes in (dynamically), and no gradient goes through it: "
            "quantise the weights alone (bitsandbytes, torchao weight-only)"
        )
    known = across_layers(model.config.get_text_config())
    if 0 in known:
        return "its first layer looks at pictures, and the first is where the length of what is cached is read"
    across = [
        name for name, module in decoder.named_modules() if _looks_across(name, module) and not _is_in(name, known)
    ]
    if across:
        return (
            f"its decoder looks at the picture through cross-attention ({across[0]} and others) that is no layer of "
            "its own: shares and saliency would leave the picture out"
        )
    needed = [name for name in _needed_arguments(model) if name not in {"self", "input_ids"}]
    if needed:
        return f"it wants {' and '.join(needed)} at every step, and so cannot be continued from its keys and values"
    return _BY_NAME.get(model.config.model_type)


def require_readable(model: PreTrainedModel) -> None:
    """Raise `UnsupportedModelError` for a model that cannot be read."""
    reason = refusal(model)
    if reason is not None:
        msg = f"{type(model).__name__} is not supported: {reason}"
        raise UnsupportedModelError(msg)


def _looks_across(path: str, module: object) -> bool:
    name, kind = (part.replace("_", "").lower() for part in (path.rpartition(".")[2], type(module).__name__))
    return name == "encoderattn" or any(word in part for part in (name, kind) for word in _ACROSS)


def _is_quantized(module: nn.Module) -> bool:
    """Whether a layer quantises its input: torch's own kind, or torchao's by the class of its weight."""
    if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")):
        return True
    kind = type(module._parameters.get("weight")).__name__
    return "ActivationQuantized" in kind


def _is_in(path: str, layers: frozenset[int]) -> bool:
    """Whether a module of a decoder is one of these layers or a part of one."""
    parts = path.split(".")
    return len(parts) > 1 and parts[0] == "layers" and parts[1].isdigit() and int(parts[1]) in layers


def _needed_arguments(model: PreTrainedModel) -> list[str]:
    """What a forward pass of a model has to be given."""
    parameters = inspect.signature(type(model).forward).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in parameters if each.default is each.empty and each.kind in named]
