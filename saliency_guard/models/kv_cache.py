"""Passes over a cache of keys and values, and what a pass leaves in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


class _Buffered(DynamicLayer):
    """Keys and values with room behind them, where new ones are written: the old need not be copied for each token."""

    _SPARE = 128
    _buffers: tuple[Tensor, Tensor] | None = None
    _row: _RowOf | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None or torch.is_grad_enabled():  # A graph may not be written into.
            return super().update(key_states, value_states, *args, **kwargs)
        length = self.keys.shape[-2]
        stop = length + key_states.shape[-2]
        if (
            self._buffers is None
            or self._buffers[0].data_ptr() != self.keys.data_ptr()
            or self._buffers[0].shape[-2] < stop
        ):
            self._buffers = (_with_room(self.keys, stop + self._SPARE), _with_room(self.values, stop + self._SPARE))
            self._row = None
        keys, values = self._buffers
        keys[:, :, length:stop] = key_states
        values[:, :, length:stop] = value_states
        self.keys, self.values = keys[:, :, :stop], values[:, :, :stop]
        return self.keys, self.values

    def leave(self) -> None:
        """Stop sharing buffers with other layers."""
        self._buffers = self._row = None

    def move_out(self) -> None:
        """Copy keys and values out of the buffers of a batch, so that these can be freed."""
        self.leave()
        if self.keys is not None and self.values is not None:
            self.keys, self.values = moved_out(self.keys), moved_out(self.values)

    def gather(self, rows: Sequence[_Buffered], padding: Sequence[int]) -> None:
        """Hold several layers side by side, aligned at their ends; without a copy where they are so already."""
        width = padding[0] + _length(rows[0])
        self._row = None
        self._buffers = _shared_buffers(rows, padding) or (
            _lined_up([row.keys for row in rows], padding, width + self._SPARE),
            _lined_up([row.values for row in rows], padding, width + self._SPARE),
        )
        self.keys, self.values = (room[:, :, :width] for room in self._buffers)

    def scatter(self, rows: Sequence[_Buffered], padding: Sequence[int]) -> None:
        """Give every layer its row; they can be gathered again without a copy."""
        assert self.keys is not None and self.values is not None  # noqa: S101, PT018 - for the type checker
        fits = self._buffers is not None and self._buffers[0].data_ptr() == self.keys.data_ptr()
        for number, (row, before) in enumerate(zip(rows, padding, strict=True)):
            row.leave()
            row.keys = self.keys[number : number + 1, :, before:]
            row.values = self.values[number : number + 1, :, before:]
            if fits and self._buffers is not None:
                row._row = _RowOf(self._buffers, number, before)


@dataclass(frozen=True, slots=True, eq=False)
class _RowOf:
    """The place of a layer's keys and values: a row of buffers that hold those of several layers."""

    buffers: tuple[Tensor, Tensor]
    number: int
    before: int


def _length(layer: DynamicLayer) -> int:
    assert layer.keys is not None  # noqa: S101 - for the type checker
    return int(layer.keys.shape[-2])


def _shared_buffers(rows: Sequence[_Buffered], padding: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """The buffers whose rows are exactly these layers, in this order and with this padding; None if there are none."""
    first = rows[0]._row
    if first is None or first.buffers[0].shape[0] != len(rows):
        return None
    for number, (row, before) in enumerate(zip(rows, padding, strict=True)):
        place = row._row
        if place is None or place.buffers is not first.buffers or (place.number, place.before) != (number, before):
            return None
        if row.keys is None or row.keys.data_ptr() != place.buffers[0][number, :, before:].data_ptr():
            return None
    return first.buffers


def _lined_up(states: Sequence[Tensor | None], padding: Sequence[int], capacity: int) -> Tensor:
    """``[B, heads, capacity, D]`` with the states of each row behind its padding, and room behind them."""
    rows = [row for row in states if row is not None]
    room = rows[0].new_empty(len(rows), rows[0].shape[1], capacity, rows[0].shape[-1])
    for number, (row, before) in enumerate(zip(rows, padding, strict=True)):
        room[number, :, :before] = 0.0  # What is masked must still be a number.
        room[number, :, before : before + row.shape[-2]] = row[0]
    return room


def moved_out(states: Tensor) -> Tensor:
    """A copy of a tensor that would keep at least as much other memory alive as its own; else the tensor itself."""
    size = states.numel() * states.element_size()
    return states.clone() if states.untyped_storage().nbytes() >= 2 * size else states


class _OfPictures(DynamicLayer):
    """What a cross-attention layer sees: keys and values of pictures, which no token adds to or takes away."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        with torch.inference_mode(mode=False):  # A graph is to go through them as they are.
            self.keys, self.values = keys.detach().clone(), values.detach().clone()
        return keys, values


def _leave(layers: Sequence[Any]) -> None:
    for layer in layers:
        if isinstance(layer, _Buffered):
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
    cache.layer_class_to_replicate = _Buffered
    across = anatomy(model).across
    kinds: list[Any] = [_OfPictures if index in across else _Buffered for index in range(max(across, default=-1) + 1)]
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


def move_out(cache: Cache) -> None:
    """Let go of the batch whose rows the keys and values of a cache are: its memory lives as long as they do."""
    for layer in cache.layers:
        if isinstance(layer, _Buffered):
            layer.move_out()


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


def side_by_side(caches: Sequence[Cache], padding: Sequence[int]) -> Cache:
    """One cache of several, lined up at their ends.

    Args:
        caches: of one model, that can be cropped; none may be used before `hand_back`.
        padding: what stands before each.
    """
    merged = copy.copy(caches[0])
    merged.layers = [copy.copy(layer) for layer in caches[0].layers]
    for number, layer in enumerate(merged.layers):
        rows: list[Any] = [cache.layers[number] for cache in caches]
        if isinstance(layer, _Buffered) and layer.keys is not None:
            layer.gather(rows, padding)
    return merged


def hand_back(merged: Cache, caches: Sequence[Cache], padding: Sequence[int]) -> None:
    """Give each of the caches of `side_by_side` its row."""
    for number, layer in enumerate(merged.layers):
        rows: list[Any] = [cache.layers[number] for cache in caches]
        if isinstance(layer, _Buffered) and layer.keys is not None:
            layer.scatter(rows, padding)


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
