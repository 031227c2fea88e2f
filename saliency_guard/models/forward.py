"""Running a model for inference and leaving it as it was found: the ways to run one, and what goes in."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from saliency_guard.errors import InputError, ModelError, NonFiniteError, SaliencyGuardError
from saliency_guard.models.attention import Tape, attending
from saliency_guard.models.fork_safety import ForkSafeLock, in_child, require_device
from saliency_guard.models.inputs import ANSWER_KINDS, check_no_image_token, extended
from saliency_guard.models.layer_states import attended, is_asked, listening
from saliency_guard.models.layers import anatomy, gain_layers, look_at
from saliency_guard.models.locore import LocoREConfig, row_gains
from saliency_guard.models.supported import require_readable
from saliency_guard.placement import working_device
from saliency_guard.settings import require

_LOCKS: WeakKeyDictionary[nn.Module, ForkSafeLock] = WeakKeyDictionary()
_LOCKS_GUARD = ForkSafeLock("beginning to run a model")


class _ThreadState(threading.local):
    """The models that this thread holds already: what `undisturbed` does is not done again for every pass inside."""

    held: tuple[nn.Module, ...] = ()

    def forget(self) -> None:
        """What the thread that forked was in the middle of is not the child's: its lock says so."""
        self.held = ()


_THREAD = _ThreadState()
in_child(_THREAD.forget)


@contextmanager
def without_gradients() -> Iterator[None]:
    """No gradients are recorded but those that a tape asks for, whatever grad mode the caller is in."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


def has_own_modes() -> bool:
    """Whether torch works otherwise in this thread: under autocast, under a mode, on a CUDA stream of its own."""
    modes = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()
    if modes or any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")):
        return True
    return torch.cuda.is_initialized() and torch.cuda.current_stream() != torch.cuda.default_stream()


def lock_of(model: PreTrainedModel) -> ForkSafeLock:
    """What a thread holds while it runs a model, or reads what a run would change."""
    with _LOCKS_GUARD:
        if model not in _LOCKS:
            _LOCKS[model] = ForkSafeLock(f"running a model ({type(model).__name__})")
        return _LOCKS[model]


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
    require_device(working_device(model))
    with lock_of(model), without_gradients():
        outer = _THREAD.held
        _THREAD.held = (*outer, model)
        plain = anatomy(model).plain
        training = [module for module in (model, *anatomy(model).modules) if module.training]
        # Models with multimodal rotary positions keep an offset from the last prompt on themselves.
        roped = [(module, module.rope_deltas) for module in _roped(model)]
        try:
            for module in training:
                module.training = False
            for config in plain:  # Parts of a model read each other's outputs by name.
                config.return_dict = True
            yield
        finally:
            _THREAD.held = outer
            for module in training:
                module.training = True
            for config in plain:
                config.return_dict = False
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

    Needed where every row of a layer matters (the full map, the matrix norm, a prompt that looks both ways);
    costs what a training step of the whole sequence costs.

    Returns:
        ``[len(tokens), V]`` logits; row t predicts ``tokens[t]``.
    """
    check_supported(model, locore)
    check_no_image_token(model, tokens[:-1])
    whole = extended(inputs, tokens[:-1], ANSWER_KINDS.get(model.config.model_type, 0))
    gained = row_gains(model, locore, 0, prompt_length + len(tokens) - 1, prompt_length)
    with undisturbed(model), attending(model, tape=tape, gains=gained):
        forget_rope(model)
        logits = last_logits(model, {**whole, "use_cache": False}, len(tokens))[0]
    check_finite(logits, model)
    return logits


def check_supported(model: PreTrainedModel, locore: LocoREConfig | None) -> None:
    """Look at a model, and refuse what cannot work before anything runs: another kind, layers that are not there."""
    require(LocoREConfig, locore)
    require_readable(model)
    look_at(model)
    if locore is not None:
        gain_layers(model, locore.layers)


def last_logits(
    model: PreTrainedModel, inputs: Mapping[str, Any], keep: int, *, states: list[Tensor] | None = None
) -> Tensor:
    """``[B, keep, V]`` logits of the last ``keep`` positions, in whatever grad mode the pass ends in.

    Args:
        model: what runs.
        inputs: of the pass.
        keep: positions whose logits are wanted.
        states: filled with the decoder's states, ``[B, n, D]`` for the embeddings and after every layer (the last one
            normalised, as transformers has it), where a list is given.

    Raises:
        InputError: if the model does not take the inputs.
        ModelError: if they are not of the shapes or kinds it works with: a processor of another model's, say.
    """
    extra: dict[str, Any] = {"logits_to_keep": keep} if "logits_to_keep" in _parameters(type(model)) else {}
    if states is not None and is_asked(model):
        extra["output_hidden_states"] = True
    heard = listening(model, states) if states is not None and not extra.get("output_hidden_states") else nullcontext()
    try:
        with heard:
            output = model(**inputs, return_dict=True, **extra)
    except (SaliencyGuardError, torch.OutOfMemoryError):
        raise
    except _UNFIT as error:
        if isinstance(error, ValueError) and "to unpack" not in str(error):  # Tensors of other ranks are unpacked.
            msg = f"{type(model).__name__} does not take these inputs: {error}"
            raise InputError(msg) from error
        msg = f"{type(model).__name__} cannot run these inputs: {error} (is the processor the model's own?)"
        raise ModelError(msg) from error
    if states is not None and extra.get("output_hidden_states"):
        states += [attended(model, layer).detach() for layer in output.hidden_states]
    logits: Tensor = output.logits
    return logits if logits.shape[1] == keep else logits[:, -keep:]  # A slice costs a copy in the backward pass.


_UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What models raise for inputs that another model's processor made: parts missing, of other shapes or unknown."""


def cache_argument(model: PreTrainedModel) -> str:
    """What the model's ``forward`` calls its cache of keys and values: ``cache`` from transformers 5.24 on."""
    return "cache" if "cache" in _parameters(type(model)) else "past_key_values"


def check_finite(logits: Tensor, model: PreTrainedModel) -> None:
    """Raise `NonFiniteError` for logits that mean nothing."""
    # Ruled-out tokens may be -inf in a model's own logits; NaN (which a maximum hands on) and +inf never mean anything.
    if not bool(logits.max() < torch.inf):
        msg = (
            f"{type(model).__name__} returned NaN or infinite logits in {logits.dtype}: load it in float32 or "
            "bfloat16, and check the weights"
        )
        raise NonFiniteError(msg)


def forget_rope(model: PreTrainedModel) -> None:
    """Drop the offset of the last prompt, so that the next pass finds its own."""
    for module in _roped(model):
        _set_rope(module, None)


def _roped(model: PreTrainedModel) -> list[nn.Module]:
    outermost = [model] if "rope_deltas" in vars(model) else []
    return [*outermost, *anatomy(model).roped]


def _set_rope(module: nn.Module, deltas: Any) -> None:
    vars(module)["rope_deltas"] = deltas


def _parameters(kind: type[PreTrainedModel]) -> frozenset[str]:
    """What a model class's forward takes."""
    if kind not in _PARAMETERS:
        _PARAMETERS[kind] = frozenset(inspect.signature(kind.forward).parameters)
    return _PARAMETERS[kind]


_PARAMETERS: dict[type[PreTrainedModel], frozenset[str]] = {}
