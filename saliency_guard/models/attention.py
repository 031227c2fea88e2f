"""The one attention function that is registered with transformers: it applies LocoRE, and keeps a tape.

It takes part only while `attending` is in force, and only in the decoder: the vision tower keeps its
own attention, and a step that needs neither gain nor tape keeps the model's own attention everywhere.

What the tape keeps per target layer is all that Eq. 3 and 4 need: with ``o = A V`` before the output
projection, ``d loss / d A[j] = (d loss / d o) . v_j`` per head.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from saliency_guard.errors import UnsupportedModelError
from saliency_guard.models.compile_stance import uncompiled
from saliency_guard.models.layers import anatomy
from saliency_guard.models.locore import Gains

NAME = "saliency_guard"


@dataclass(frozen=True, slots=True, eq=False)
class LayerRecord:
    """One layer on the tape, ``n`` query rows over ``T`` keys.

    Attributes:
        output: ``[1, n, H, D]`` attention output before the projection, in the graph.
        weights: ``[1, H, n, T]`` post-softmax attention, float32 or wider.
        values: ``[1, H_kv, T, D]`` values, detached.
        across: whether the keys are those of pictures, and none of the sequence (cross-attention).
    """

    output: Tensor
    weights: Tensor
    values: Tensor
    across: bool = False


@dataclass(slots=True, eq=False)
class Tape:
    """What one forward pass leaves behind for the gradients.

    Attributes:
        layers: the target layers.
        whole: True where the queries are the whole sequence and every path counts (Eq. 3 in full);
            False where each row is to depend on its own loss alone (the predictor row).
        prefix: with ``whole`` False and a pass over the whole sequence: how many positions at its beginning see
            each other whatever their order. All paths among them count, and rows are kept from the last of them on.
        records: filled by the pass, by layer index.
    """

    layers: tuple[int, ...]
    whole: bool = False
    prefix: int = 0
    records: dict[int, LayerRecord] = field(default_factory=dict)

    def in_order(self) -> list[LayerRecord]:
        """The records of the target layers, from the lowest on.

        Those of layers that look at pictures are missing where there is none.
        """
        return [self.records[layer] for layer in self.layers if layer in self.records]

    @property
    def lowest(self) -> int:
        """The layer at which the graph begins."""
        return min(self.layers)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    tape: Tape | None
    gains: Gains | None
    across: frozenset[int] = frozenset()
    seen: set[int] = field(default_factory=set)


class _ThreadState(threading.local):
    """The tape and the gains of this thread's forward pass.

    The model's configuration is shared by all threads, this is not: a forward pass that another thread makes of the
    same model meanwhile finds the default, and gets plain attention.
    """

    call = _Call(None, None)


_THREAD = _ThreadState()


@contextmanager
def attending(
    model: PreTrainedModel, *, tape: Tape | None = None, gains: Gains | None = None, entry: int = 0
) -> Iterator[None]:
    """Route the decoder's attention through this module for the one forward pass inside.

    The model's configuration is put back whatever happens. Layers below ``entry`` do not run.

    Raises:
        UnsupportedModelError: after the pass, if the attention of a layer of the tape or the gains was not routed
            through this module.
    """
    if tape is None and gains is None:
        yield
        return
    parts = anatomy(model)
    before = [(config, config._attn_implementation_internal) for config in parts.configs]
    call, outer = _Call(tape, gains, parts.across), _THREAD.call
    _THREAD.call = call
    try:
        for config, _ in before:
            config._attn_implementation_internal = NAME
        with uncompiled(model):
            yield
    finally:
        for config, name in before:
            config._attn_implementation_internal = name
        _THREAD.call = outer
    wanted = {*(tape.layers if tape is not None else ()), *(gains.layers if gains is not None else ())}
    # A prompt without a picture passes over the layers that look at pictures.
    missing = sorted(layer for layer in wanted - call.seen - parts.across if layer >= entry)
    if missing:
        msg = (
            f"the attention of layers {missing} of {type(model).__name__} does not go through "
            "transformers' attention interface, so it can be neither read nor changed: choose other layers "
            "in SaliencyConfig(layers=[...]) and LocoREConfig(layers=[...]), or another model"
        )
        raise UnsupportedModelError(msg)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: ``[1, H, n, D]`` queries in, ``[1, n, H, D]`` outputs out."""
    call = _THREAD.call
    layer: int = module.layer_idx  # type: ignore[assignment]
    call.seen.add(layer)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    gain = call.gains if call.gains is not None and layer in call.gains.layers else None
    tape = call.tape if call.tape is not None and layer >= call.tape.lowest else None
    across = layer in call.across
    if tape is None and softcap is None and s_aux is None and (gain is None or gain.renormalize):
        causal = attention_mask is None and query.shape[2] > 1 and not across
        return _fused(query, key, value, attention_mask, scale=scale, gain=gain, causal=causal), None
    begins = tape is not None and layer in tape.layers and not tape.records
    if begins:
        # Everything below runs without gradient; the caller's own mode comes back when the pass is over.
        torch.set_grad_enabled(True)
    rows = tape is not None and not tape.whole and not across  # The keys of pictures are nobody's own.
    prefix = tape.prefix if tape is not None and not across else 0
    weights = _weights(
        query, key, attention_mask, scale=scale, softcap=softcap, sinks=s_aux, gain=gain, rows=rows, prefix=prefix
    )
    output = _mix(weights, value, rows=rows, prefix=prefix, dtype=query.dtype)
    if tape is not None and layer in tape.layers:
        first = max(tape.prefix - 1, 0)
        before, kept = output[:, :first], output[:, first:]
        if begins:
            before, kept = before.detach(), kept.detach().requires_grad_()
        # Put together anew, so that what follows depends on what is kept.
        output = torch.cat([before, kept], dim=1) if first else kept
        tape.records[layer] = LayerRecord(
            output=kept, weights=weights[:, :, first:].detach(), values=value.detach(), across=across
        )
    return output, None


def _fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, gain: Gains | None, causal: bool
) -> Tensor:
    """No tape: torch's own kernel, with the gain as part of its mask (renormalised LocoRE is just that)."""
    if gain is not None:
        bias = gain.log_bias(query)
        mask = bias if mask is None else mask + bias
    grouped = key.shape[1] != query.shape[1]
    output = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        scale=scale,
        is_causal=causal and mask is None,
        enable_gqa=grouped,
    )
    return output.transpose(1, 2).contiguous()


def _weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    gain: Gains | None,
    rows: bool,
    prefix: int,
) -> Tensor:
    """Post-softmax attention ``[1, H, n, T]``, in float32 at least.

    With ``rows``, row ``t`` sees every other position's key as a constant and its own as live; within the
    ``prefix`` all are live.
    """
    batch, heads, n, width = query.shape
    groups = heads // key.shape[1]
    fixed = key.detach() if rows else key
    scores = (query * scale).reshape(batch, key.shape[1], groups * n, width) @ fixed.transpose(2, 3)
    mask = None if mask is None else mask[..., : scores.shape[-1]]
    if rows:
        live = _live(key, n).repeat_interleave(groups, dim=1)
        through_own_key = (query.detach() * live).sum(-1) * scale
        # Nothing comes between scores and mask where there is no softcap and no prefix: added without a copy.
        early = mask if softcap is None and not prefix else None
        scores = _OwnScore.apply(scores, through_own_key, early)  # type: ignore[no-untyped-call]
        mask = None if early is not None else mask
    scores = scores.view(batch, heads, n, -1)
    if prefix:
        others = query @ _live(key, n).repeat_interleave(groups, dim=1).transpose(2, 3)
        scores = scores + others * scale * _block(prefix, scores)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    dtype = torch.promote_types(query.dtype, torch.float32)
    scores = scores.to(dtype)
    if gain is not None and gain.renormalize:
        scores = scores + gain.log_bias(scores)
    if sinks is None:
        weights = scores.softmax(-1)
    else:
        sink = sinks.reshape(1, -1, 1, 1).to(dtype).expand(batch, heads, n, 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(-1)[..., :-1]
    if gain is not None and not gain.renormalize:
        weights = weights * gain.factors.to(weights)
    return weights


def _mix(weights: Tensor, value: Tensor, *, rows: bool, prefix: int, dtype: torch.dtype) -> Tensor:
    """``o = A V`` as ``[1, n, H, D]``; with ``rows``, the row's own value is live, and those of its ``prefix``."""
    batch, heads, n, length = weights.shape
    groups = heads // value.shape[1]
    fixed = value.detach() if rows else value
    cast = weights.to(dtype)
    output = (cast.reshape(batch, value.shape[1], groups * n, length) @ fixed).view(batch, heads, n, -1)
    if rows:
        live = _live(value, n).repeat_interleave(groups, dim=1)
        output = output + _diagonal(cast.detach())[..., None] * live
    if prefix:
        output = output + (cast * _block(prefix, cast)) @ _live(value, n).repeat_interleave(groups, dim=1)
    return output.transpose(1, 2).contiguous()


def _live(states: Tensor, n: int) -> Tensor:
    """The last ``n`` positions minus themselves: zeros that carry their gradient, ``[1, H_kv, n, D]``."""
    newest = states[:, :, -n:]
    return newest - newest.detach()


def _diagonal(values: Tensor) -> Tensor:
    """``[..., n]`` of ``[..., n, T]`` where a query meets its own key; the queries are the last ``n`` positions."""
    n, length = values.shape[-2:]
    return values.diagonal(length - n, -2, -1)


class _OwnScore(torch.autograd.Function):
    """Scores with their mask, and with a gradient for what they owe to each row's own key (zero in value).

    In place, and of scores that are nobody's view: autograd would copy the gradient of all of them otherwise.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, own: Tensor, mask: Tensor | None) -> Tensor:
        """``[B, H_kv, H / H_kv * n, T]``; of the own key ``[B, H, n]``; the mask of ``[B, H, n, T]``."""
        ctx.mark_dirty(scores)
        ctx.shape = own.shape
        if mask is not None:
            scores.view(*own.shape, -1).add_(mask)
        return scores

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradient of all scores, and its part where a query meets its own key."""
        return gradient, _diagonal(gradient.reshape(*ctx.shape, -1)), None


def _block(prefix: int, like: Tensor) -> Tensor:
    """``[T, T]`` ones where a position of the prefix meets another one's key; the queries are all positions."""
    length = like.shape[-1]
    block = torch.zeros(length, length, dtype=like.dtype, device=like.device)
    block[:prefix, :prefix] = 1
    return block.fill_diagonal_(0)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)
