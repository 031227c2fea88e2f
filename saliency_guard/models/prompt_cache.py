"""Prompts that were read before: the newest few are kept, so that a retry or a scoring need not read them again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.models.fork_safety import ForkSafeLock, uninterrupted
from saliency_guard.models.kv_cache import move_out
from saliency_guard.models.layers import anatomy, look_at
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Session, blank_inputs


class PromptCache:
    """The sessions of the prompts read last, as far as they were continued.

    A kept prompt is one whose inputs are the same to the bit, under a model that has not been changed
    since: weights, adapters, attention implementation and hooks are compared. Whatever is handed out is
    a session of its own.

    Args:
        size: how many prompts to keep; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[object, ...], Session] = OrderedDict()
        self._blank: tuple[tuple[object, ...], Session] | None = None
        self._lock = ForkSafeLock("looking for a prompt that was read before")

    def __reduce__(self) -> tuple[type[PromptCache], tuple[int]]:
        """A copy is a cache of its own, of the same size and with nothing in it."""
        return type(self), (self._size,)

    @uninterrupted()
    def sessions(
        self,
        model: PreTrainedModel,
        prompts: Sequence[PreparedPrompt],
        *,
        locore: LocoREConfig | None,
        with_image_states: bool = False,
    ) -> list[Session]:
        """A session for each of several prompts; what is the same in two of them is read once.

        Args:
            model: whose prompts they are.
            prompts: inputs and layout of each.
            locore: the gains the continuations are to run under.
            with_image_states: whether the states at the pictures are kept while a prompt is read.
        """
        look_at(model)  # Adapters may have come or gone since the last call.
        state = _state(model)
        first: dict[str, Session] = {}
        sessions: list[Session] = []
        for prompt in prompts:
            inputs, layout = prompt.inputs, prompt.layout
            name = _digest(inputs)
            known = first.get(name) or self._known((state, name))
            if known is not None:
                session = known.fork(locore=locore, layout=layout)
            else:
                session = Session(model, inputs, locore=locore, layout=layout, with_image_states=with_image_states)
                if not session.croppable:  # What it is continued with cannot be taken back: keep it as it is now.
                    self._keep((state, name), session.fork(locore=locore, layout=layout))
            first.setdefault(name, session)
            sessions.append(session)
        return sessions

    def _known(self, key: tuple[object, ...]) -> Session | None:
        """The kept session of a prompt; where there is none, room is made before the new one takes its own."""
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
            while known is None and self._kept and len(self._kept) >= self._size:
                self._kept.popitem(last=False)
        return known

    def keep(self, session: Session) -> None:
        """Keep a session and what it was continued with; it must not be used any further.

        The batch that it was a row of is not kept.
        """
        if session.croppable and self._size > 0:
            move_out(session.cache)
            if session.states:
                session.states = list(torch.cat(session.states, dim=1).split(1, dim=1))
            self._keep((_state(session.model), _digest(session.inputs)), session)

    @uninterrupted()
    def blank(self, session: Session) -> Session:
        """A session's prompt with uniform pictures.

        The newest is kept: where another prompt has pictures of the same sizes in the same places, only its text is
        read. Uniform pictures are all alike.

        Args:
            session: the prompt with its own pictures.
        """
        inputs, state = blank_inputs(session.inputs), _state(session.model)
        with self._lock:
            kept = self._blank
        if kept is not None and kept[0] == state and kept[1].locore == session.locore:
            continued = kept[1].with_text(inputs, session.layout)
            if continued is not None:
                return continued
        read = Session(session.model, inputs, locore=session.locore, layout=session.layout)
        if self._size > 0 and read.croppable:
            with self._lock:
                self._blank = (state, read.fork(locore=session.locore, layout=session.layout))
        return read

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget all prompts."""
        with self._lock:
            self._kept.clear()
            self._blank = None

    def _keep(self, key: tuple[object, ...], session: Session) -> None:
        if self._size == 0:
            return
        with self._lock:
            self._kept[key] = session
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def _digest(inputs: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for name in sorted(inputs):
        value = inputs[name]
        if name in {"attention_mask", "labels"} or not isinstance(value, Tensor):
            continue  # One prompt without padding: the mask masks nothing, and labels are not read.
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _state(model: PreTrainedModel) -> tuple[object, ...]:
    """State that invalidates the cache when it changes: weights, hooks, adapters, attention implementation."""
    changed: list[object] = [model.config._attn_implementation, model.config.get_text_config()._attn_implementation]
    for module in (model, *anatomy(model).modules):
        changed += [
            (id(tensor), 0 if tensor.is_inference() else tensor._version)
            for tensor in chain(module._parameters.values(), module._buffers.values())
            if tensor is not None
        ]
        if module._forward_hooks or module._forward_pre_hooks:
            changed.append((id(module), tuple(module._forward_hooks), tuple(module._forward_pre_hooks)))
        adapters = _adapters(module)
        if adapters:
            changed.append((id(module), str(adapters)))
    return tuple(changed)


def _adapters(module: torch.nn.Module) -> tuple[object, ...]:
    """The adapters of a PEFT layer that are in force."""
    active = vars(module).get("_active_adapter")
    return () if active is None else (active, vars(module).get("_disable_adapters"))
