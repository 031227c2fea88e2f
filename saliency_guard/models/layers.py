"""What a model is made of: its parts, cached per answer, and which of its layers a setting names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PreTrainedModel

from saliency_guard.errors import ConfigError
from saliency_guard.models.layer_choice import LayerChoice


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """Parts of a model; no reference to the model itself, so that its memory can be freed.

    Attributes:
        modules: all that are in it.
        roped: those that keep an offset of multimodal rotary positions from the last prompt.
        configs: the configs that decide the decoder's attention: modules read their own, masks are made
            from the model's.
        plain: the configs that want tuples of their parts (``return_dict=False``).
        compiled: whether one of the modules is compiled.
        layers: the decoder's layers, each of which works by itself; None where it does not keep them in the usual
            place.
        across: indices of the layers that look at pictures instead of the sequence (cross-attention).
    """

    modules: tuple[nn.Module, ...]
    roped: tuple[nn.Module, ...]
    configs: tuple[Any, ...]
    plain: tuple[Any, ...]
    compiled: bool
    layers: tuple[nn.Module, ...] | None
    across: frozenset[int]


_KNOWN: WeakKeyDictionary[nn.Module, Anatomy] = WeakKeyDictionary()


def anatomy(model: PreTrainedModel) -> Anatomy:
    """A model's parts, as they were when it was last looked at."""
    return _KNOWN.get(model) or look_at(model)


def look_at(model: PreTrainedModel) -> Anatomy:
    """Look at a model anew: adapters come and go between two answers, not between two tokens."""
    modules = tuple(module for module in model.modules() if module is not model)
    decoder = model.get_decoder()
    configs = {id(config): config for config in (model.config.get_text_config(), decoder.config)}
    configs.update(
        {id(m.config): m.config for m in decoder.modules() if hasattr(m, "layer_idx") and hasattr(m, "config")}
    )
    layers = getattr(decoder, "layers", None)
    text = model.config.get_text_config()
    usual = isinstance(layers, nn.ModuleList) and len(layers) == text.num_hidden_layers
    if getattr(text, "num_kv_shared_layers", 0):  # The upper ones take keys and values from some below.
        usual = False
    parts = Anatomy(
        modules=modules,
        roped=tuple(module for module in modules if "rope_deltas" in vars(module)),
        configs=tuple(configs.values()),
        plain=tuple(_plain((model, *modules)).values()),
        compiled=any(
            module._compiled_call_impl is not None or hasattr(module, "_orig_mod") for module in (model, *modules)
        ),
        layers=tuple(layers) if usual else None,  # type: ignore[arg-type]
        across=across_layers(text),
    )
    _KNOWN[model] = parts
    return parts


def _plain(modules: Iterable[nn.Module]) -> dict[int, Any]:
    configs = {id(module.config): module.config for module in modules if hasattr(module, "config")}
    return {key: config for key, config in configs.items() if getattr(config, "return_dict", None) is False}


def resolve_layers(choice: LayerChoice | None, depth: int) -> tuple[int, ...]:
    """Layer indices from a choice: None is all, a tuple of two fractions a half-open range, a list itself.

    Fractions ``a, b`` mean layers ``floor(a * depth)`` to ``ceil(b * depth) - 1``.

    Raises:
        ConfigError: if the choice names no layer, or one that is not there.
    """
    if choice is None:
        return tuple(range(depth))
    if isinstance(choice, tuple):
        low, high = choice
        # A fraction is meant as written: 0.1 * 30 is 3, whatever floating point makes of it.
        picked = tuple(range(math.floor(low * depth + 1e-9), math.ceil(high * depth - 1e-9)))
    else:
        picked = tuple(sorted({layer + depth if layer < 0 else layer for layer in choice}))
    if not picked or picked[0] < 0 or picked[-1] >= depth:
        msg = f"layers={choice!r} does not name layers of a model with {depth} layers (0 to {depth - 1})"
        raise ConfigError(msg)
    return picked


def across_layers(text: Any) -> frozenset[int]:
    """The layers that look at pictures instead of the sequence, as a decoder's config names them."""
    return frozenset(getattr(text, "cross_attention_layers", None) or ())


_WITHOUT_ATTENTION = frozenset({"linear_attention", "conv", "mamba", "mamba2", "recurrent"})


def attention_layers(model: PreTrainedModel) -> tuple[int, ...]:
    """The layers that attend: in recurrent and convolutional ones there is no attention to read or to change."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or [""] * config.num_hidden_layers
    return tuple(index for index, kind in enumerate(kinds) if kind not in _WITHOUT_ATTENTION)


def target_layers(model: PreTrainedModel, choice: LayerChoice | None) -> tuple[int, ...]:
    """`resolve_layers` for a model; of a range, those layers that attend.

    Raises:
        ConfigError: if the choice names no layer, or one that is not there; where some layers look at the pictures and
            the others along the sequence, if it does not hold layers of both kinds.
    """
    attending = _attending(model, choice)
    across = across_layers(model.config.get_text_config())
    if across and not across.intersection(attending):
        msg = f"layers={choice!r} holds no layer that looks at pictures; those of this model are {sorted(across)}"
        raise ConfigError(msg)
    return attending


def gain_layers(model: PreTrainedModel, choice: LayerChoice | None) -> tuple[int, ...]:
    """`resolve_layers` for LocoRE: of a choice, those layers that look along the sequence; errors as there."""
    across = across_layers(model.config.get_text_config())
    return tuple(layer for layer in _attending(model, choice) if layer not in across)


def _attending(model: PreTrainedModel, choice: LayerChoice | None) -> tuple[int, ...]:
    attending_layers = attention_layers(model)
    text = model.config.get_text_config()
    picked = resolve_layers(choice, text.num_hidden_layers)
    across = across_layers(text)
    if isinstance(choice, list) and not across:
        return picked
    attending = tuple(layer for layer in picked if layer in attending_layers)
    along = [layer for layer in attending_layers if layer not in across]
    if not set(attending).intersection(along):
        msg = f"layers={choice!r} holds no layer with attention to the sequence; those of this model are {along}"
        raise ConfigError(msg)
    return attending
