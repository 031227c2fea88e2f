"""Running a model for inference and leaving it as it was found: the ways to run one, and what goes in."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from saliency_guard.errors import ConfigError, InputError, NonFiniteError, UnsupportedModelError
from saliency_guard.models.attention import Gains, Tape, attending
from saliency_guard.models.layers import anatomy, look_at
from saliency_guard.models.locore import LayerChoice, LocoREConfig, gains
from saliency_guard.settings import require

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()


class _ThreadState(threading.local):
    """The models that this thread holds already: what `undisturbed` does is not done again for every pass inside."""

    held: tuple[nn.Module, ...] = ()


_THREAD = _ThreadState()


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


_WITHOUT_ATTENTION = frozenset({"linear_attention", "conv", "mamba", "mamba2", "recurrent"})


def attention_layers(model: PreTrainedModel) -> tuple[int, ...]:
    """The layers that attend: in recurrent and convolutional ones there is no attention to read or to change."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or [""] * config.num_hidden_layers
    return tuple(index for index, kind in enumerate(kinds) if kind not in _WITHOUT_ATTENTION)


def target_layers(model: PreTrainedModel, choice: LayerChoice | None) -> tuple[int, ...]:
    """`resolve_layers` for a model; of a range, those layers that attend.

    Raises:
        ConfigError: if the choice names no layer, or one that is not there.
    """
    attending_layers = attention_layers(model)
    picked = resolve_layers(choice, model.config.get_text_config().num_hidden_layers)
    if isinstance(choice, list):
        return picked
    found = tuple(layer for layer in picked if layer in attending_layers)
    if not found:
        msg = f"layers={choice!r} holds no layer with attention; those of this model are {list(attending_layers)}"
        raise ConfigError(msg)
    return found


@contextmanager
def without_gradients() -> Iterator[None]:
    """No gradients are recorded but those that a tape asks for, whatever grad mode the caller is in."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


@contextmanager
def undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Run a model for inference and put back what that changes: training flags, grad mode, rope state.

    One thread at a time per model: hooks, patched layers and the configuration of its attention are shared by all
    threads, so whatever sets one of them does so inside of this.
    """
    if model in _THREAD.held:
        with torch.no_grad():  # A scored pass ends with gradients on.
            yield
        return
    with _LOCKS_GUARD:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock, without_gradients():
        outer = _THREAD.held
        _THREAD.held = (*outer, model)
        training = [module for module in anatomy(model).modules if module.training]
        # Models with multimodal rotary positions keep an offset from the last prompt on themselves.
        roped = [(module, module.rope_deltas) for module in anatomy(model).roped]
        try:
            for module in training:
                module.training = False
            yield
        finally:
            _THREAD.held = outer
            for module in training:
                module.training = True
            for module, deltas in roped:
                _set_rope(module, deltas)


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
    check_supported(model, locore)
    _check_no_image_token(model, tokens[:-1])
    whole = extended(inputs, tokens[:-1])
    gained = row_gains(model, locore, 0, prompt_length + len(tokens) - 1, prompt_length)
    with undisturbed(model), attending(model, tape=tape, gains=gained):
        forget_rope(model)
        logits = last_logits(model, {**whole, "use_cache": False}, len(tokens))[0]
    check_finite(logits, model)
    return logits


def _check_no_image_token(model: PreTrainedModel, tokens: Sequence[int]) -> None:
    if getattr(model.config, "image_token_id", None) in tokens:
        msg = "the answer holds the model's own image token: a whole-sequence pass would look for its picture"
        raise InputError(msg)


def check_supported(model: PreTrainedModel, locore: LocoREConfig | None) -> None:
    """Look at a model, and refuse what cannot work before anything runs: another kind, layers that are not there."""
    require(LocoREConfig, locore)
    look_at(model)
    if model.config.is_encoder_decoder:
        msg = f"{type(model).__name__} has an encoder and a decoder: only causal decoders are supported"
        raise UnsupportedModelError(msg)
    if locore is not None:
        target_layers(model, locore.layers)


def row_gains(
    model: PreTrainedModel, locore: LocoREConfig | None, first: int, count: int, output_start: int
) -> Gains | None:
    """LocoRE's gains for ``count`` queries from position ``first`` on; None where there are none."""
    factors = gains(locore, first, count, output_start) if locore is not None else None
    if locore is None or factors is None:
        return None
    layers = target_layers(model, locore.layers)
    factors = factors.to(model.device, torch.promote_types(model.dtype, torch.float32))
    return Gains(factors, frozenset(layers), locore.renormalize)


def last_logits(model: PreTrainedModel, inputs: Mapping[str, Any], keep: int) -> Tensor:
    """``[B, keep, V]`` logits of the last ``keep`` positions, in whatever grad mode the pass ends in."""
    extra = {"logits_to_keep": keep} if "logits_to_keep" in _parameters(type(model)) else {}
    try:
        logits: Tensor = model(**inputs, return_dict=True, **extra).logits
    except ValueError as error:
        msg = f"{type(model).__name__} does not take these inputs: {error}"
        raise InputError(msg) from error
    return logits[:, -keep:]


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


def shortened(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a prompt without its last token.

    Raises:
        InputError: if it has no other.
    """
    ids = inputs["input_ids"]
    if ids.shape[1] == 1:
        msg = "the prompt is a single token: there is nothing before the one that predicts the answer"
        raise InputError(msg)
    return {name: value[:, :-1] if _per_position(value, ids) else value for name, value in inputs.items()}


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


def check_finite(logits: Tensor, model: PreTrainedModel) -> None:
    """Raise `NonFiniteError` for logits that mean nothing."""
    # Ruled-out tokens may be -inf in a model's own logits; NaN and +inf never mean anything.
    if bool(torch.isnan(logits).any()) or bool((logits == torch.inf).any()):
        msg = (
            f"{type(model).__name__} returned NaN or infinite logits in {logits.dtype}: load it in float32 or "
            "bfloat16, and check the weights"
        )
        raise NonFiniteError(msg)


def forget_rope(model: PreTrainedModel) -> None:
    """Drop the offset of the last prompt, so that the next pass finds its own."""
    for module in anatomy(model).roped:
        _set_rope(module, None)


def kept_offset(model: PreTrainedModel) -> Tensor | None:
    """The offset of rotary positions that the model keeps from the last prompt, if it is of that kind."""
    modules = anatomy(model).roped
    return vars(modules[0])["rope_deltas"] if modules else None


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
