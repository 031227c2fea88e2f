"""The logit lens: what a model would say next of states inside of it."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel


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
