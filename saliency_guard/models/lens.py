"""The logit lens: what a model would say next of states inside of it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel


def has_lens(model: PreTrainedModel) -> bool:
    """Whether the decoder keeps its final norm under the usual name (``norm``), and has a head."""
    return getattr(model.get_decoder(), "norm", None) is not None and model.get_output_embeddings() is not None


def lens_logits(model: PreTrainedModel, states: Tensor, *, normalised: bool) -> Tensor | None:
    """``[n, V]`` float32 logits of states ``[n, D]``; None where the decoder keeps no final norm under the usual name.

    Args:
        model: whose lens it is.
        states: of any layer, on the model's device.
        normalised: whether the final norm was applied already, as to the last layer's.
    """
    norm = getattr(model.get_decoder(), "norm", None)
    head = model.get_output_embeddings()
    if norm is None or head is None:
        return None
    logits: Tensor = head(states if normalised else norm(states))
    return logits.float()


def token_logits(model: PreTrainedModel, states: Tensor, tokens: Tensor, *, normalised: bool) -> Tensor | None:
    """``[n, K]`` float32: `lens_logits` of some tokens alone, without a product with the whole vocabulary.

    Args:
        model: whose lens it is.
        states: ``[n, D]`` of any layer, on the model's device.
        tokens: ``[K]`` ids.
        normalised: whether the final norm was applied already, as to the last layer's.
    """
    norm = getattr(model.get_decoder(), "norm", None)
    head = model.get_output_embeddings()
    if norm is None or not _has_rows(head):
        logits = lens_logits(model, states, normalised=normalised)
        return None if logits is None else logits[:, tokens.to(logits.device)]
    chosen = tokens.to(head.weight.device)
    bias = None if head.bias is None else head.bias[chosen].float()
    seen = (states if normalised else norm(states)).to(head.weight.device)
    return functional.linear(seen.float(), head.weight[chosen].float(), bias)


def _has_rows(head: nn.Module | None) -> bool:
    """Whether a head's weights are there to take rows of: not quantised, adapted, or kept elsewhere until they run."""
    if type(head) is not nn.Linear or type(head.weight) is not nn.Parameter:
        return False
    return head.weight.is_floating_point() and head.weight.device.type != "meta"
