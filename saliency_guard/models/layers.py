"""What a model is made of, looked at once an answer rather than once a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """Parts of a model.

    Attributes:
        modules: all of them.
        roped: those that keep an offset of multimodal rotary positions from the last prompt.
        configs: the configs that decide the decoder's attention: modules read their own, masks are made
            from the model's.
        compiled: whether one of the modules is compiled.
    """

    modules: tuple[nn.Module, ...]
    roped: tuple[nn.Module, ...]
    configs: tuple[Any, ...]
    compiled: bool


_KNOWN: WeakKeyDictionary[nn.Module, Anatomy] = WeakKeyDictionary()


def anatomy(model: PreTrainedModel) -> Anatomy:
    """A model's parts, as they were when it was last looked at."""
    return _KNOWN.get(model) or look_at(model)


def look_at(model: PreTrainedModel) -> Anatomy:
    """Look at a model anew: adapters come and go between two answers, not between two tokens."""
    modules = tuple(model.modules())
    decoder = model.get_decoder()
    configs = {id(config): config for config in (model.config.get_text_config(), decoder.config)}
    configs.update(
        {id(m.config): m.config for m in decoder.modules() if hasattr(m, "layer_idx") and hasattr(m, "config")}
    )
    parts = Anatomy(
        modules=modules,
        roped=tuple(module for module in modules if "rope_deltas" in vars(module)),
        configs=tuple(configs.values()),
        compiled=any(module._compiled_call_impl is not None or hasattr(module, "_orig_mod") for module in modules),
    )
    _KNOWN[model] = parts
    return parts
