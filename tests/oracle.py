"""The brute-force oracle: transformers' own eager attention, the full sequence, no cache, plain autograd.

It shares no code with the package. Everything is taken from the equations of the paper: the loss of
the token (Eq. 2), the gradient at every attention matrix (Eq. 3), tril(abs(A * dA)) (Eq. 4), the mean
over heads divided by an L2 norm (Eq. 5), the mean over layers and positions J of the predictor row
(Eq. 6).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

_LOCORE: dict[str, object] = {}

_WEIGHTS: list[Tensor] = []
"""Of every layer of the decoder, for models that lose their pictures when transformers is asked for attentions."""


def _eager_with_locore(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Textbook attention, then Eq. 8 to 10 as they are written: multiply, and if asked renormalise."""
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = query @ key.transpose(2, 3) * scaling
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    weights = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
    layer = getattr(module, "layer_idx", None)
    if layer in _LOCORE.get("layers", ()):
        multiplied = weights * _gamma(weights.shape[-1], **_LOCORE["gamma"])
        weights = multiplied / multiplied.sum(-1, keepdim=True) if _LOCORE["renormalize"] else multiplied
    if layer is not None:
        _WEIGHTS.append(weights)
    return (weights @ value).transpose(1, 2), weights


def _gamma(length: int, *, beta: float, window: int, output_start: int) -> Tensor:
    gamma = torch.ones(length, length)
    for query in range(length):
        for key in range(output_start, query + 1):
            if query - key <= window:
                gamma[query, key] = 1 + beta
    return gamma


AttentionInterface.register("oracle_locore", _eager_with_locore)
AttentionMaskInterface.register("oracle_locore", eager_mask)


def extended(model: PreTrainedModel, inputs: dict[str, Tensor], answer: list[int]) -> dict[str, Tensor]:
    """The inputs of prompt and answer as one sequence."""
    ids = torch.cat([inputs["input_ids"], torch.tensor([answer], dtype=torch.long)], dim=1)
    full = dict(inputs, input_ids=ids, attention_mask=torch.ones_like(ids))
    full.pop("labels", None)
    if "cross_attention_mask" in inputs:  # What follows sees the pictures that the last token of the prompt sees.
        seen = inputs["cross_attention_mask"]
        full["cross_attention_mask"] = torch.cat([seen, *[seen[:, -1:]] * len(answer)], dim=1)
    for name in ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids", "image_embeds_position_mask"):
        if name in inputs:
            # An answer is text; PaliGemma, which calls its prefix 0, calls it 1.
            kind = int(name == "token_type_ids" and model.config.model_type == "paligemma")
            full[name] = torch.cat([inputs[name], torch.full((1, len(answer)), kind)], dim=1)
    return full


def forward(model: PreTrainedModel, inputs: dict[str, Tensor], answer: list[int], locore: dict | None) -> tuple:
    """Logits and attention matrices of prompt + answer, in the graph."""
    full = extended(model, inputs, answer)
    before = model.config.get_text_config()._attn_implementation
    recorded = model.config.model_type == "phi4_multimodal"
    _WEIGHTS.clear()
    try:
        if locore is None and not recorded:
            model.set_attn_implementation("eager")
        else:
            _LOCORE.clear()
            _LOCORE.update(locore or {})
            part = "text_config" if hasattr(model.config, "text_config") else ""
            model.set_attn_implementation({part: "oracle_locore"})
        with torch.enable_grad():
            out = model(**full, use_cache=False, output_attentions=not recorded)
    finally:
        model.set_attn_implementation(before)
    return out.logits[0], tuple(_WEIGHTS) if recorded else out.attentions


def token_maps(
    model: PreTrainedModel, inputs: dict[str, Tensor], answer: list[int], target: int, locore: dict | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention, gradient (Eq. 3) and log-probability for ``answer[target]``: ``[L, H, T, T]`` twice."""
    logits, attentions = forward(model, inputs, answer[:target], locore)
    loss = functional.cross_entropy(logits[-1][None].double(), torch.tensor([answer[target]]))
    gradients = torch.autograd.grad(loss, attentions)
    return torch.cat([a.detach() for a in attentions]), torch.cat(gradients), -loss.detach()


def across(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    answer: list[int],
    *,
    layers: list[int],
    start: int,
    pictures: list[tuple[int, int]],
    normalization: str = "row",
    locore: dict | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 6, log-probabilities and the share of each picture where some layers look at pictures alone.

    Eq. 6 is the mean over the layers that look along the sequence; the shares are of all layers' rows together.
    """
    seen_across = model.config.get_text_config().cross_attention_layers
    scores, logprobs = torch.full((len(answer),), torch.nan).double(), torch.zeros(len(answer)).double()
    shares = torch.zeros(len(answer), len(pictures)).double()
    for target in range(len(answer)):
        logits, attentions = forward(model, inputs, answer[:target], locore)
        loss = functional.cross_entropy(logits[-1][None].double(), torch.tensor([answer[target]]))
        gradients = torch.autograd.grad(loss, attentions)
        logprobs[target] = -loss.detach()
        along, total = [], torch.zeros(()).double()
        for layer in layers:
            product = (attentions[layer] * gradients[layer])[0].detach().double().abs().mean(dim=0)
            matrix = product if layer in seen_across else product.tril()
            row = matrix[-1] / (matrix[-1].norm() if normalization == "row" else matrix.norm())
            total += row.sum()
            if layer in seen_across:
                shares[target] += torch.stack([row[first:last].sum() for first, last in pictures])
            else:
                along.append(row)
        shares[target] /= total
        if target > 0:
            scores[target] = torch.stack(along).mean(dim=0)[start:].mean()
    return scores, logprobs, shares


def saliency(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    answer: list[int],
    *,
    layers: list[int],
    start: int,
    normalization: str = "row",
    locore: dict | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 6 of every token (NaN first), log-probabilities, and the mean normalised predictor rows."""
    prompt = inputs["input_ids"].shape[1]
    scores, logprobs = torch.full((len(answer),), torch.nan).double(), torch.zeros(len(answer)).double()
    rows = torch.zeros(len(answer), prompt + len(answer) - 1).double()
    for target in range(len(answer)):
        attention, gradient, logprobs[target] = token_maps(model, inputs, answer, target, locore)
        product = (attention.double() * gradient.double()).abs().tril()[layers].mean(dim=1)
        last = product[:, -1]
        norm = last.norm(dim=-1) if normalization == "row" else product.flatten(1).norm(dim=-1)
        row = (last / norm[:, None]).mean(dim=0)
        rows[target, : len(row)] = row
        if target > 0:
            scores[target] = row[start:].mean()
    return scores, logprobs, rows
