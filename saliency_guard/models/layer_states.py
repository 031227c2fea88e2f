"""What a decoder's layers hand on to each other, where a model cannot be asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from saliency_guard.errors import UnsupportedModelError
from saliency_guard.models.compile_stance import uncompiled

_BROKEN_BY_A_REQUEST = frozenset({"phi4_multimodal"})
"""Model types whose tower loses its own states once transformers is asked for hidden states."""


def is_asked(model: PreTrainedModel) -> bool:
    """Whether ``output_hidden_states=True`` gives a model's states, and harms nothing."""
    return model.config.model_type not in _BROKEN_BY_A_REQUEST


@contextmanager
def listening(model: PreTrainedModel, states: list[Tensor]) -> Iterator[None]:
    """Collect what transformers calls hidden states: what enters each layer, and what the final norm makes of it all.

    Args:
        model: with its decoder's layers and final norm in the usual places.
        states: filled with ``[B, n, D]`` for the embeddings and after every layer.
    """
    decoder: Any = model.get_decoder()
    hooks = [layer.register_forward_pre_hook(partial(_entered, states), with_kwargs=True) for layer in decoder.layers]
    hooks.append(decoder.norm.register_forward_hook(partial(_left, states)))
    try:
        with uncompiled(model):  # A compiled model would not notice the hooks.
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _Reached(Exception):  # noqa: N818 - ends a pass, no error
    """The first layer was reached.

    Args:
        states: what enters it.
    """

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def entry_states(model: PreTrainedModel, inputs: Mapping[str, Any]) -> Tensor:
    """``[B, n, D]`` what enters the decoder's first layer: tokens' embeddings, with the pictures among them.

    No layer is run. The caller holds the model (`saliency_guard.models.forward.undisturbed`).

    Args:
        model: with its decoder's layers in the usual place.
        inputs: of a prompt.

    Raises:
        UnsupportedModelError: if the model never came to that layer.
    """
    decoder: Any = model.get_decoder()
    hook = decoder.layers[0].register_forward_pre_hook(_stop, with_kwargs=True)
    try:
        with uncompiled(model):
            model(**inputs, use_cache=False, return_dict=True)
    except _Reached as reached:
        return attended(model, reached.states)
    finally:
        hook.remove()
    msg = f"{type(model).__name__} did not run the first layer of its decoder"
    raise UnsupportedModelError(msg)


def attended(model: PreTrainedModel, states: Tensor) -> Tensor:
    """``[B, n, D]`` of what layers hand on: of several streams of states, that which attention works on."""
    stream = getattr(model.config.get_text_config(), "altup_active_idx", 0)
    return states if states.ndim == 3 else states[stream]


def _stop(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    raise _Reached(incoming(arguments, named).detach())


def incoming(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The states that a layer is called with."""
    return arguments[0] if arguments else named["hidden_states"]


def _entered(states: list[Tensor], _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    states.append(incoming(arguments, named).detach())


def _left(states: list[Tensor], _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
    states.append(output.detach())
