"""Passes over a cache of keys and values, and what a pass leaves in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, LinearAttentionCacheLayerMixin

from saliency_guard.models.attention import Tape, attending
from saliency_guard.models.forward import cache_argument, check_finite, last_logits, undisturbed
from saliency_guard.models.layers import anatomy
from saliency_guard.models.locore import Gains

_RECURRENT = ("conv_states", "recurrent_states")
_RECURRENT_FLAGS = ("is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state")


class _Replacing(LinearAttentionCacheLayerMixin):
    """A recurrent layer's cache that writes into a copy: the graph of a pass may still need the state before."""

    def update_conv_state(self, conv_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        self._copy(self.conv_states, state_idx)
        return super().update_conv_state(conv_states, state_idx, **kwargs)  # type: ignore[safe-super]

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        self._copy(self.recurrent_states, state_idx)
        return super().update_recurrent_state(recurrent_states, state_idx, **kwargs)  # type: ignore[safe-super]

    @staticmethod
    def _copy(states: dict[int, Tensor | None], index: int) -> None:
        before = states.get(index)
        if before is not None:
            states[index] = before.clone()


class _Roomy(DynamicLayer):
    """Keys and values with room behind them, where new ones are written: the old need not be copied for each token."""

    _ROOM = 128
    _rooms: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None or torch.is_grad_enabled():  # A graph may not be written into.
            return super().update(key_states, value_states, *args, **kwargs)
        length = self.keys.shape[-2]
        stop = length + key_states.shape[-2]
        if self._rooms is None or self._rooms[0].data_ptr() != self.keys.data_ptr() or self._rooms[0].shape[-2] < stop:
            self._rooms = (_with_room(self.keys, stop + self._ROOM), _with_room(self.values, stop + self._ROOM))
        keys, values = self._rooms
        keys[:, :, length:stop] = key_states
        values[:, :, length:stop] = value_states
        self.keys, self.values = keys[:, :, :stop], values[:, :, :stop]
        return self.keys, self.values

    def leave(self) -> None:
        """Write nowhere that another layer may read."""
        self._rooms = None


class _OfPictures(DynamicLayer):
    """What a cross-attention layer sees: keys and values of pictures, which no token adds to or takes away."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        with torch.inference_mode(mode=False):  # A graph is to go through them as they are.
            self.keys, self.values = keys.detach().clone(), values.detach().clone()
        return keys, values

    def crop(self, tokens_to_remove: int) -> None:
        """Nothing to forget."""


def _leave(layers: Sequence[Any]) -> None:
    for layer in layers:
        if isinstance(layer, _Roomy):
            layer.leave()


def _with_room(states: Tensor, capacity: int) -> Tensor:
    room = states.new_empty(*states.shape[:2], capacity, states.shape[-1])
    room[:, :, : states.shape[-2]] = states
    return room


def is_croppable(cache: Cache) -> bool:
    """Whether a cache can forget its newest positions; a recurrent layer's cannot."""
    return not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)


def empty_cache(model: PreTrainedModel) -> tuple[Cache, bool]:
    """A cache for a model, and whether it can forget its newest positions."""
    typed = DynamicCache(config=model.config.get_text_config())
    recurrent = [layer for layer in typed.layers if isinstance(layer, LinearAttentionCacheLayerMixin)]
    for layer in recurrent:
        layer.__class__ = type(type(layer).__name__, (_Replacing, type(layer)), {})
    if recurrent:
        return typed, False
    # Without a config it keeps whole sequences, of sliding windows too, so that it can be cropped.
    cache = DynamicCache()
    cache.layer_class_to_replicate = _Roomy
    across = anatomy(model).across
    kinds: list[Any] = [_OfPictures if index in across else _Roomy for index in range(max(across, default=-1) + 1)]
    cache.layers = [kind() for kind in kinds]
    return cache, True


def copied(cache: Cache) -> Cache:
    """Another cache with the same content; neither changes the other.

    Keys and values are shared: a pass replaces them. Recurrent states are copied: a pass may write into them.
    """
    _leave(cache.layers)
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in twin.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            for name in _RECURRENT:
                states = getattr(layer, name)
                setattr(layer, name, {key: value if value is None else value.clone() for key, value in states.items()})
            for name in _RECURRENT_FLAGS:
                setattr(layer, name, dict(getattr(layer, name)))
    return twin


def cached_layers(cache: Cache) -> list[CacheLayerMixin]:
    """The layers of a cache that hold keys and values."""
    return [layer for layer in cache.layers if isinstance(layer, CacheLayerMixin) and layer.keys is not None]


def truncate(cache: Cache, length: int) -> None:
    """Keep ``length`` positions of every layer, without graph; also where a pass broke off between two layers.

    Recurrent states have no positions: they only lose their graph.
    """
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            for name in _RECURRENT:
                states = getattr(layer, name)
                states.update({key: value.detach() for key, value in states.items() if value is not None})
    for layer in cached_layers(cache):
        assert layer.keys is not None and layer.values is not None  # noqa: S101, PT018 - for the type checker
        if isinstance(layer, _OfPictures):
            continue
        layer.keys = layer.keys[:, :, :length].detach()
        layer.values = layer.values[:, :, :length].detach()


@contextmanager
def set_back(cache: Cache, length: int) -> Iterator[None]:
    """As if the cache held ``length`` positions; afterwards it is what it was."""
    kept = cache.layers
    cache.layers = [copy.copy(layer) for layer in kept]
    _leave(cache.layers)
    try:
        truncate(cache, length)
        yield
    finally:
        cache.layers = kept


def cached_pass(
    model: PreTrainedModel,
    cache: Cache,
    inputs: Mapping[str, Any],
    *,
    tape: Tape | None = None,
    gains: Gains | None = None,
    entry: int = 0,
    states: list[Tensor] | None = None,
) -> Tensor:
    """Run the model over its cache for new tokens, which are added to it.

    Args:
        model: left as it was.
        cache: of keys and values, which are unchanged if the pass fails.
        inputs: ``input_ids`` ``[B, n]`` and what else the tokens need.
        tape: keeps the target layers.
        gains: of LocoRE.
        entry: the layer at which the pass begins.
        states: as for `last_logits`.

    Returns:
        ``[n, V]`` logits, ``[B, n, V]`` for several sequences.
    """
    before = int(cache.get_seq_length())
    count = inputs["input_ids"].shape[1]
    try:
        # Inference mode is a tenth faster on small models. A recurrent layer writes into its states, in any mode.
        inference = torch.inference_mode(mode=tape is None and is_croppable(cache))
        with undisturbed(model), inference, attending(model, tape=tape, gains=gains, entry=entry):
            cached = {cache_argument(model): cache, "use_cache": True}
            logits = last_logits(model, {**inputs, **cached}, count, states=states)
            # In here, since outside the caller's grad mode is in force.
            logits = logits[0] if len(logits) == 1 else logits
    except BaseException:
        truncate(cache, before)
        raise
    # The newest keys and values carry the graph of this pass; what stays in the cache must not.
    truncate(cache, int(cache.get_seq_length()))
    check_finite(logits, model)
    return logits
