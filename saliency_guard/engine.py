"""A prompt being continued by a model: prefill, steps, scored chunks, and the cache between them.

Every call leaves the model as it found it, so that a caller may stop between any two of them.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from saliency_guard.attention import Gains, Tape, attending
from saliency_guard.errors import ConfigError, InputError, NonFiniteError, UnsupportedModelError
from saliency_guard.layout import PromptLayout, prompt_layout
from saliency_guard.locore import LayerChoice, LocoREConfig, gains
from saliency_guard.resuming import decoder_layers, recording, resuming
from saliency_guard.settings import require

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()
_HELD: ContextVar[tuple[nn.Module, ...]] = ContextVar("saliency_guard_held", default=())
"""The models that are undisturbed already: what that takes is not done again for every pass inside."""


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


@contextmanager
def undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Run a model for inference and put back what that changes: training flags, grad mode, rope state.

    One thread at a time per model: the configuration of its attention is shared by all.
    """
    if model in _HELD.get():
        with torch.no_grad():  # A scored pass ends with gradients on.
            yield
        return
    with _LOCKS_GUARD:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock, torch.inference_mode(mode=False), torch.no_grad():
        held = _HELD.set((*_HELD.get(), model))
        training = [module for module in model.modules() if module.training]
        # Models with multimodal rotary positions keep an offset from the last prompt on themselves.
        roped = [(module, module.rope_deltas) for module in _roped(model)]
        try:
            for module in training:
                module.training = False
            yield
        finally:
            _HELD.reset(held)
            for module in training:
                module.training = True
            for module, deltas in roped:
                _set_rope(module, deltas)


@dataclass(slots=True, eq=False)
class Chunk:
    """Several known tokens run at once.

    Attributes:
        logits: ``[n, V]``, row t predicts what follows token t; in the graph where there is a tape.
        first_query: position of row 0.
        tape: the target layers' records, or None.
    """

    logits: Tensor
    first_query: int
    tape: Tape | None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.logits.shape[0]


class Session:
    """One prompt of one model, and how far it has been continued.

    After construction the cache holds the prompt without its last token: that token is the first row
    of the first chunk, since it is the one that predicts the first output token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Any],
        *,
        locore: LocoREConfig | None = None,
        layout: PromptLayout | None = None,
    ) -> None:
        _check_supported(model, locore)
        self.model = model
        self.inputs = unpadded(inputs)
        self.layout = layout or prompt_layout(model.config, self.inputs)
        self.depth: int = model.config.get_text_config().num_hidden_layers
        self._locore = locore
        last = self.layout.spans[-1] if self.layout.spans else None
        if last is not None and last.is_visual and last.stop == self.layout.length:
            msg = "the prompt ends with an image: the token that predicts the answer must be text"
            raise InputError(msg)
        self.last_prompt_token = int(self.inputs["input_ids"][0, -1])
        self._cache = DynamicCache()  # Without a config it keeps whole sequences, so that it can be cropped.
        self._rope_delta: Tensor | None = None
        self._entry: int | None = None
        self._tokens: list[int] = []
        self._states: list[Tensor] = []
        self._prefill()

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return int(self._cache.get_seq_length())

    @property
    def prompt_length(self) -> int:
        """Positions of the prompt; the first output token has this position."""
        return self.layout.length

    @property
    def croppable(self) -> bool:
        """Whether the cache can forget its newest positions."""
        return True

    def keep_states(self, layer: int) -> None:
        """Keep what enters a layer from now on, so that `rescore` with it as the lowest need not run those below."""
        if layer != self._entry:
            self._entry = layer
            self._states.clear()

    def _prefill(self) -> None:
        with undisturbed(self.model):
            ropes = _forget_rope(self.model)
            self._forward(self.inputs)
            if ropes:
                self._rope_delta = vars(ropes[0])["rope_deltas"]
        if self.length != self.prompt_length or not all(layer.is_croppable for layer in self._layers()):
            msg = f"{type(self.model).__name__} does not fill a key-value cache that can be cropped"
            raise UnsupportedModelError(msg)
        self.crop(self.prompt_length - 1)

    def _forward(self, inputs: Mapping[str, Any], *, keep: int = 1) -> Tensor:
        """Run the model over its cache; ``[n, V]`` logits of the last ``keep`` positions."""
        return _logits(self.model, {**inputs, "past_key_values": self._cache, "use_cache": True}, keep)

    def run(self, tokens: Sequence[int], *, layers: tuple[int, ...] | None = None) -> Chunk:
        """Feed tokens after what is cached.

        Args:
            tokens: known token ids; row t of the result is the query at ``self.length + t``.
            layers: target layers to keep on tape; None runs without gradient.

        Raises:
            NonFiniteError: if the logits are NaN or infinite.
            UnsupportedModelError: if a target layer's attention did not come past.
        """
        known = decoder_layers(self.model)
        if self._entry is None or known is None:
            chunk = self._pass(tokens, layers)
        else:
            with recording(known[self._entry]) as entered:
                chunk = self._pass(tokens, layers)
            if len(self._states) == len(self._tokens):
                self._states += [one for states in entered for one in states.split(1, dim=1)]
        self._tokens += tokens
        return chunk

    def rescore(self, first: int, count: int, *, layers: tuple[int, ...]) -> Chunk:
        """Run tokens that are in the cache once more, on tape; the cache stays as it is.

        Args:
            first: position of the first of them, none of the prompt's but its last.
            count: how many.
            layers: target layers; where `keep_states` knows what entered the lowest, those below do not run.
        """
        start = first - (self.prompt_length - 1)
        tokens = self._tokens[start : start + count]
        states = self._states[start : start + count] if self._entry == min(layers) else []
        known = decoder_layers(self.model)
        kept = [(layer, layer.keys, layer.values) for layer in self._layers()]
        try:
            self._truncate(first)
            if known is None or len(states) < count:
                return self._pass(tokens, layers)
            with resuming(known, min(layers), torch.cat(states, dim=1)):
                return self._pass(tokens, layers, entry=min(layers))
        finally:
            for layer, keys, values in kept:
                layer.keys, layer.values = keys, values

    def _pass(self, tokens: Sequence[int], layers: tuple[int, ...] | None, *, entry: int = 0) -> Chunk:
        first, count = self.length, len(tokens)
        ids = torch.tensor([list(tokens)], device=self.inputs["input_ids"].device)
        positions = torch.arange(first, first + count, device=ids.device)[None]
        if self._rope_delta is not None:
            positions = (positions + self._rope_delta.to(ids.device)).expand(3, 1, count)
        tape = Tape(layers) if layers is not None else None
        gained = _gains(self.model, self._locore, first, count, self.prompt_length)
        try:
            with undisturbed(self.model), attending(self.model, tape=tape, gains=gained, entry=entry):
                logits = self._forward({"input_ids": ids, "position_ids": positions}, keep=count)
        except BaseException:
            self._truncate(first)
            raise
        # The newest keys and values carry the graph of this pass; what stays in the cache must not.
        self._truncate(self.length)
        _check_finite(logits, self.model)
        return Chunk(logits, first, tape)

    def run_answer(self, answer: Tensor, *, layers: tuple[int, ...] | None = None) -> Chunk:
        """The rows that predict an answer ``[N]`` right after the prompt; as `run`."""
        return self.run([self.last_prompt_token, *answer[:-1].tolist()], layers=layers)

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on."""
        kept = max(length - (self.prompt_length - 1), 0)
        del self._tokens[kept:], self._states[kept:]
        if length < self.length:
            self._cache.crop(length - self.length)

    def _truncate(self, length: int) -> None:
        """Keep ``length`` positions of every layer, without graph; also where a pass broke off between two layers."""
        for layer in self._layers():
            if layer.keys is not None and layer.values is not None:
                layer.keys = layer.keys[:, :, :length].detach()
                layer.values = layer.values[:, :, :length].detach()

    def _layers(self) -> list[CacheLayerMixin]:
        return [layer for layer in self._cache.layers if isinstance(layer, CacheLayerMixin)]


def run_whole(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    tokens: Sequence[int],
    tape: Tape,
    *,
    prompt_length: int,
    locore: LocoREConfig | None,
) -> Tensor:
    """Prompt and answer in one pass without a cache, everything above the lowest target layer in the graph.

    Needed where every row of a layer matters (the full map, the matrix norm); costs what a training
    step of the whole sequence costs.

    Returns:
        ``[len(tokens), V]`` logits; row t predicts ``tokens[t]``.
    """
    _check_supported(model, locore)
    _check_no_image_token(model, tokens[:-1])
    whole = extended(inputs, tokens[:-1])
    gained = _gains(model, locore, 0, prompt_length + len(tokens) - 1, prompt_length)
    with undisturbed(model), attending(model, tape=tape, gains=gained):
        _forget_rope(model)
        logits = _logits(model, {**whole, "use_cache": False}, len(tokens))
    _check_finite(logits, model)
    return logits


def _check_no_image_token(model: PreTrainedModel, tokens: Sequence[int]) -> None:
    if getattr(model.config, "image_token_id", None) in tokens:
        msg = "the answer holds the model's own image token: a whole-sequence pass would look for its picture"
        raise InputError(msg)


def hidden_states(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    tokens: Sequence[int],
    *,
    prompt_length: int,
    locore: LocoREConfig | None,
) -> tuple[Tensor, ...]:
    """The decoder's states for prompt and answer, one plain pass without gradient.

    Returns:
        For the embeddings and after every layer ``[T, D]``; the last one is normalised, as transformers has it.
    """
    _check_supported(model, locore)
    _check_no_image_token(model, tokens)
    gained = _gains(model, locore, 0, prompt_length + len(tokens), prompt_length)
    with undisturbed(model), attending(model, gains=gained):
        _forget_rope(model)
        output = model(
            **extended(unpadded(inputs), tokens), use_cache=False, return_dict=True, output_hidden_states=True
        )
    return tuple(states[0] for states in output.hidden_states)


def _check_supported(model: PreTrainedModel, locore: LocoREConfig | None) -> None:
    require(LocoREConfig, locore)
    if model.config.is_encoder_decoder:
        msg = f"{type(model).__name__} has an encoder and a decoder: only causal decoders are supported"
        raise UnsupportedModelError(msg)
    if locore is not None:  # Layers that are not there are refused before anything runs.
        resolve_layers(locore.layers, model.config.get_text_config().num_hidden_layers)


def _gains(
    model: PreTrainedModel, locore: LocoREConfig | None, first: int, count: int, output_start: int
) -> Gains | None:
    """LocoRE's gains for ``count`` queries from position ``first`` on; None where there are none."""
    factors = gains(locore, first, count, output_start) if locore is not None else None
    if locore is None or factors is None:
        return None
    layers = resolve_layers(locore.layers, model.config.get_text_config().num_hidden_layers)
    factors = factors.to(model.device, torch.promote_types(model.dtype, torch.float32))
    return Gains(factors, frozenset(layers), locore.renormalize)


def _logits(model: PreTrainedModel, inputs: Mapping[str, Any], keep: int) -> Tensor:
    """``[keep, V]`` logits of the last ``keep`` positions, in whatever grad mode the pass ends in."""
    extra = {"logits_to_keep": keep} if "logits_to_keep" in _parameters(type(model)) else {}
    try:
        logits: Tensor = model(**inputs, return_dict=True, **extra).logits
    except ValueError as error:
        msg = f"{type(model).__name__} does not take these inputs: {error}"
        raise InputError(msg) from error
    return logits[0, -keep:]


def unpadded(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """One prompt's inputs without left padding and without a mask that masks nothing.

    Raises:
        InputError: if there is no ``input_ids``, it is no single prompt, or it is padded on the right.
    """
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.shape[1] == 0:
        msg = "inputs must hold input_ids of shape [1, P], as the processor returns them with return_tensors='pt'"
        raise InputError(msg)
    if ids.shape[0] != 1:
        msg = f"one prompt at a time: input_ids has batch size {ids.shape[0]}"
        raise InputError(msg)
    kept = {name: value for name, value in inputs.items() if value is not None}
    mask = kept.pop("attention_mask", None)
    if mask is None or bool((mask != 0).all()):
        return kept
    seen = (mask[0] != 0).to(torch.int8)
    if bool((seen.diff() < 0).any()):
        msg = "the prompt is padded on the right or masked inside: the answer has to follow it (padding_side='left')"
        raise InputError(msg)
    return {name: value[:, seen.bool()] if _per_position(value, ids) else value for name, value in kept.items()}


def extended(inputs: Mapping[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    """The inputs of prompt and tokens together; what tells kinds of positions apart says text for the tokens."""
    ids = inputs["input_ids"]
    added = torch.tensor([list(tokens)], dtype=ids.dtype, device=ids.device)
    result = dict(inputs)
    for name, value in inputs.items():
        if name == "input_ids":
            result[name] = torch.cat([ids, added], dim=1)
        elif _per_position(value, ids):
            result[name] = torch.cat([value, torch.zeros_like(added, dtype=value.dtype)], dim=1)
    return result


def _check_finite(logits: Tensor, model: PreTrainedModel) -> None:
    # Ruled-out tokens may be -inf in a model's own logits; NaN and +inf never mean anything.
    if bool(torch.isnan(logits).any()) or bool((logits == torch.inf).any()):
        msg = (
            f"{type(model).__name__} returned NaN or infinite logits in {logits.dtype}: load it in float32 or "
            "bfloat16, and check the weights"
        )
        raise NonFiniteError(msg)


def _roped(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that keep an offset of rotary positions from the last prompt."""
    return [module for module in model.modules() if "rope_deltas" in vars(module)]


def _forget_rope(model: PreTrainedModel) -> list[nn.Module]:
    """Drop the offset of the last prompt, so that the next pass finds its own; the modules that keep one."""
    modules = _roped(model)
    for module in modules:
        _set_rope(module, None)
    return modules


def _set_rope(module: nn.Module, deltas: Any) -> None:
    vars(module)["rope_deltas"] = deltas


def _per_position(value: Any, ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == ids.shape


def _parameters(kind: type[PreTrainedModel]) -> frozenset[str]:
    """What a model class's forward takes."""
    if kind not in _PARAMETERS:
        _PARAMETERS[kind] = frozenset(inspect.signature(kind.forward).parameters)
    return _PARAMETERS[kind]


_PARAMETERS: dict[type[PreTrainedModel], frozenset[str]] = {}
