"""Entering a decoder in its middle: the layers below the lowest target layer need not run twice.

While tokens are drafted, the states that enter that layer are kept. When the drafts are scored, the
layers below hand through what comes, and the kept states take the place of what would have come out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from saliency_guard.models.compile_stance import uncompiled
from saliency_guard.models.layer_states import incoming
from saliency_guard.models.layers import anatomy


class _ThreadState(threading.local):
    """What this thread's pass keeps and resumes from.

    Hooks and patched layers are seen by every thread. One that runs the same model meanwhile, without our lock, finds
    the defaults: it runs the model whole, and nothing of it is kept.
    """

    recorded: list[Tensor] | None = None
    resumed: Tensor | None = None


_THREAD = _ThreadState()


@contextmanager
def recording(model: PreTrainedModel, entry: int | None) -> Iterator[list[Tensor]]:
    """Collect the ``[B, n, D]`` states that enter a layer; nothing where none is named, or it is not called as one.

    To be used inside of `undisturbed`, as `resuming` is.
    """
    states_seen: list[Tensor] = []
    layers = anatomy(model).layers
    if entry is None or layers is None:
        yield states_seen
        return

    def keep(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: object) -> None:
        states = arguments[0] if arguments else named.get("hidden_states")
        # A layer that returns more than its states, or has several streams of them, cannot be passed over.
        if _THREAD.recorded is None or not isinstance(states, Tensor) or not isinstance(output, Tensor):
            return
        if states.ndim == 3:
            _THREAD.recorded.append(states.detach())

    outer, _THREAD.recorded = _THREAD.recorded, states_seen
    handle = layers[entry].register_forward_hook(keep, with_kwargs=True)
    try:
        with uncompiled(model):
            yield states_seen
    finally:
        handle.remove()
        _THREAD.recorded = outer


@contextmanager
def resuming(model: PreTrainedModel, first: int, states: Sequence[Tensor]) -> Iterator[int]:
    """Run the model from layer ``first`` on, for tokens whose states there are known.

    Args:
        model: what runs.
        first: the layer.
        states: ``[B, n, D]`` pieces, one after the other; none where they are not known.

    Yields:
        The layer at which the model begins: 0 where everything has to run.
    """
    layers = anatomy(model).layers
    if layers is None or not states:
        yield 0
        return

    def replace(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        known = _THREAD.resumed
        if known is None:
            return None
        return ((known, *arguments[1:]), named) if arguments else (arguments, {**named, "hidden_states": known})

    outer, _THREAD.resumed = _THREAD.resumed, torch.cat(list(states), dim=1)
    handle = layers[first].register_forward_pre_hook(replace, with_kwargs=True)
    below = list(layers[:first])
    before = [vars(layer).get("forward") for layer in below]
    for layer in below:
        layer.forward = _passed_over(layer.forward)
    try:
        yield first
    finally:
        for layer, forward in zip(below, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
        handle.remove()
        _THREAD.resumed = outer


def _passed_over(forward: Callable[..., Any]) -> Callable[..., Any]:
    def handed_through(*arguments: Any, **named: Any) -> Any:
        if _THREAD.resumed is None:
            return forward(*arguments, **named)
        return incoming(arguments, named)

    return handed_through
