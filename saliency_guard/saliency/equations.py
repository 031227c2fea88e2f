"""Saliency, Eq. 3 to 6 of "Hallucination Begins Where Saliency Drops": tape -> rows, scores, shares, maps.

The score of a candidate at position P is read from the *predictor row*, the query at P - 1: row P
itself has no gradient in a causal model. Rows are exact; ``models.attention`` and docs/how-it-works.md explain how they
are computed without a backward pass over the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_guard.chat.layout import PromptLayout
from saliency_guard.errors import ConfigError, NonFiniteError, UnsupportedModelError
from saliency_guard.models.attention import LayerRecord, Tape
from saliency_guard.models.session import Chunk
from saliency_guard.saliency.config import SaliencyConfig

_FLOAT16_SCALES = (256.0, 1.0, 1 / 256)
"""Gradients are linear in the loss: in float16 a larger loss keeps small ones from rounding to zero.
Where that is too large for a model, the next smaller one is taken."""


def cotangents(logits: Tensor, tokens: Tensor) -> Tensor:
    """The loss's gradient at the logits, ``softmax(logits) - onehot(token)``, up to a positive factor.

    That factor, ``1 - p(token)``, cancels in Eq. 5; left out, a token the model is sure of keeps its
    direction instead of rounding to zero (this is what makes float16 work).

    Args:
        logits: ``[..., V]``.
        tokens: ``[...]`` the token each row is asked about.

    Returns:
        ``[..., V]``; -1 at the token, the other tokens' probabilities among themselves elsewhere.
    """
    others = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
    index = tokens[..., None]
    return others.scatter(-1, index, -torch.inf).softmax(-1).scatter_(-1, index, -1.0)


def row_cotangent(logits: Tensor, token: Tensor, row: int) -> Tensor:
    """`cotangents` of one row that is asked about one token, zero for all others: ``[n, V]``, float32 at least."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    result = torch.zeros(logits.shape, dtype=dtype, device=logits.device)
    result[row] = cotangents(logits[row], token)
    return result


def token_rows(chunk: Chunk, tokens: Tensor, *, retain_graph: bool = False) -> Tensor:
    """The normalised predictor rows (Eq. 3 to 5, averaged over the target layers) of one token per row.

    Args:
        chunk: a chunk with a tape.
        tokens: ``[n]`` (of a batch ``[B, n]``) what each row is asked about; rows do not mix.
        retain_graph: whether more will be asked of this chunk.

    Returns:
        ``[n, T]`` (``[B, n, T]``); row t is that of the query at ``chunk.first_query + t``, 0 where it cannot look.
        Where some layers look across, their keys stand before those of the sequence.
    """
    if chunk.tape is None:
        msg = "this chunk was run without target layers"
        raise ConfigError(msg)
    records = chunk.tape.in_order()
    wanted = cotangents(chunk.logits, tokens.to(chunk.logits.device))
    gradients, _ = layer_gradients(chunk.logits, records, wanted, retain_graph=retain_graph)
    mean = _mean_rows(records, gradients, chunk.logits.device)
    return mean if chunk.logits.ndim > 2 else mean[0]


def candidate_rows(chunk: Chunk, tokens: Sequence[int]) -> Tensor:
    """The normalised predictor rows of several candidates for what follows a chunk of one token.

    They share the forward pass, and one batched vector-Jacobian product gives all their gradients.

    Args:
        chunk: one row, with a tape.
        tokens: ``K`` candidates.

    Returns:
        ``[K, T]``.
    """
    assert chunk.tape is not None and chunk.rows == 1  # noqa: S101, PT018 - what the one caller makes
    known = torch.tensor(tokens, device=chunk.logits.device)
    cotangent = cotangents(chunk.logits.expand(len(tokens), -1), known)[:, None]
    records = chunk.tape.in_order()
    gradients, _ = layer_gradients(chunk.logits, records, cotangent, retain_graph=True, batched=True)
    # Candidates take the place of query rows: [K, 1, 1, H, D] -> [1, K, H, D].
    return _mean_rows(records, [gradient[:, 0, 0][None] for gradient in gradients], chunk.logits.device)[0]


def _mean_rows(records: Sequence[LayerRecord], gradients: Sequence[Tensor], device: torch.device) -> Tensor:
    """Eq. 4 and 5 of each layer, averaged over the layers that look along the sequence: ``[B, n, T]``.

    What layers with cross-attention see is weighed as if they were among those, and stands before the rest.
    """
    along, across = torch.zeros((), dtype=torch.float32), torch.zeros((), dtype=torch.float32)
    for record, gradient in zip(records, gradients, strict=True):
        rows = row_unit((record.weights * weight_gradient(record, gradient)).abs().mean(dim=1)).to(device)
        if record.across:
            across = across + rows
        else:
            along = along + rows
    return beside(along, across) / sum(not record.across for record in records)


def beside(along: Tensor, across: Tensor) -> Tensor:
    """Rows over the keys of pictures that are only seen across, then over those of the sequence."""
    return torch.cat([across, along], dim=-1) if across.ndim else along


def layer_gradients(
    logits: Tensor, records: Sequence[LayerRecord], cotangent: Tensor, *, retain_graph: bool, batched: bool = False
) -> tuple[Sequence[Tensor], float]:
    """Gradients at the layers' outputs, and the factor they were scaled by (1 but in float16).

    With ``batched``, the first dimension of the cotangent, and of the gradients, counts several of them.

    Raises:
        NonFiniteError: if they overflow at every scale.
        UnsupportedModelError: if there are none.
    """
    half = logits.dtype == torch.float16
    for scale in _FLOAT16_SCALES if half else (1.0,):
        try:
            gradients = torch.autograd.grad(
                logits,
                [record.output for record in records],
                grad_outputs=(cotangent if scale == 1.0 else cotangent * scale).to(logits.dtype),
                retain_graph=retain_graph or half,
                is_grads_batched=batched,
            )
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # Kernels without a backward pass, such as those of some quantised layers.
            msg = (
                f"no gradient goes through the model's layers ({error}): load it with layers that have a backward pass"
            )
            raise UnsupportedModelError(msg) from error
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            return gradients, scale
    msg = f"the gradients overflow in {logits.dtype}: load the model in bfloat16 or float32"
    raise NonFiniteError(msg)


def weight_gradient(record: LayerRecord, gradient: Tensor) -> Tensor:
    """Eq. 3: ``d loss / d A``, ``[1, H, n, T]`` in its own precision, from ``d loss / d (A V)``, ``[1, n, H, D]``."""
    dtype = record.weights.dtype
    batch, kv_heads, length, _ = record.values.shape
    n, heads = gradient.shape[1:3]
    rows = gradient.to(dtype).transpose(1, 2).reshape(batch, kv_heads, heads // kv_heads * n, -1)
    return (rows @ record.values.to(dtype).transpose(2, 3)).view(batch, heads, n, length)


def unit(values: Tensor, norm: Tensor) -> Tensor:
    """Divided by its norm; zero stays zero."""
    return values / torch.where(norm > 0, norm, torch.ones_like(norm))


def row_unit(rows: Tensor) -> Tensor:
    """Eq. 5 with the norm of the row: each row of ``[n, T]`` divided by its L2 norm."""
    return unit(rows, rows.norm(dim=-1, keepdim=True))


def history_start(config: SaliencyConfig, layout: PromptLayout) -> int:
    """The first position of J (Eq. 6)."""
    return layout.length if config.history == "output" else layout.after_image


def row_scores(rows: Tensor, first_query: int, start: int, layout: PromptLayout, *, same_query: bool = False) -> Tensor:
    """Eq. 6: the mean of each row over J, positions ``start`` to its own.

    Args:
        rows: ``[n, T]`` normalised predictor rows; `token_rows`.
        first_query: position of row 0.
        start: the first position of J.
        layout: of the prompt; a row of the prompt itself has no generated token before it: NaN.
        same_query: whether all rows are of that one position (candidates); otherwise they follow each other.

    Returns:
        ``[n]``.
    """
    queries = torch.full((rows.shape[0],), first_query, device=rows.device)
    if not same_query:
        queries += torch.arange(rows.shape[0], device=rows.device)
    sums = rows[:, layout.beside + start :].sum(dim=-1)
    scores = sums / (queries - start + 1)
    return torch.where(queries < layout.length, torch.full_like(scores, torch.nan), scores)


def token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """``[n]`` natural log-probabilities of tokens under ``[n, V]`` logits."""
    wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]


def whole_gradients(tape: Tape, logits: Tensor, row: int, token: Tensor) -> tuple[Sequence[Tensor], float]:
    """Gradients of one token's loss, up to ``1 - p``, at every target layer's output; and their scale."""
    cotangent = row_cotangent(logits, token, row)
    return layer_gradients(logits, tape.in_order(), cotangent, retain_graph=True)
