"""LocoRE, Eq. 8 to 10 of "Hallucination Begins Where Saliency Drops": the gains.

The newest output tokens get a little more attention from the query that predicts the next one:
``gamma_j = 1 + beta`` for output positions ``j`` with ``P - j <= window``, where ``P`` is the query's
position (that of the token just generated), and 1 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.models.layer_choice import LayerChoice
from saliency_guard.models.layers import gain_layers
from saliency_guard.placement import working_device
from saliency_guard.settings import Settings


class LocoREConfig(Settings):
    """Settings of LocoRE.

    Attributes:
        beta: strength; attention to the window is multiplied by ``1 + beta``. 0 is off.
        window: how many positions back the gain reaches (``w_s``; the query's own position is 0 back).
        layers: which layers; None is all of them, otherwise as in ``SaliencyConfig.layers``.
        renormalize: whether the multiplied weights are made to sum to 1 again. Renormalised equals
            adding ``log(1 + beta)`` before the softmax; literal (False) multiplies after it.
    """

    beta: Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)] = 0.15
    window: Annotated[int, Field(ge=0)] = 8
    layers: LayerChoice | None = None
    renormalize: bool = True


def gain_factors(config: LocoREConfig, first_query: int, queries: int, output_start: int) -> Tensor | None:
    """Eq. 8 for several queries in a row.

    Args:
        config: strength and window.
        first_query: position of the first query.
        queries: how many queries follow each other.
        output_start: position of the first output token.

    Returns:
        ``[queries, first_query + queries]`` float64 factors, all at least 1; None where every one is 1.
    """
    last = first_query + queries - 1
    if config.beta == 0.0 or last < output_start:
        return None
    window = min(config.window, last)  # No position is further back.
    query = torch.arange(first_query, last + 1)[:, None]
    key = torch.arange(last + 1)[None, :]
    inside = (key >= output_start) & (key <= query) & (query - key <= window)
    return torch.where(inside, 1.0 + config.beta, 1.0).double()


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """LocoRE's factors for one forward pass: ``[n, T]`` over all keys, and where and how they apply."""

    factors: Tensor
    layers: frozenset[int]
    renormalize: bool

    def log_bias(self, like: Tensor) -> Tensor:
        """What renormalised LocoRE adds to the scores before the softmax, in the precision of ``like``."""
        return self.factors.log().to(like)


def row_gains(
    model: PreTrainedModel, locore: LocoREConfig | None, first: int, count: int, output_start: int
) -> Gains | None:
    """LocoRE's gains for ``count`` queries from position ``first`` on; None where there are none."""
    factors = gain_factors(locore, first, count, output_start) if locore is not None else None
    if locore is None or factors is None:
        return None
    layers = gain_layers(model, locore.layers)
    factors = factors.to(working_device(model), torch.promote_types(model.dtype, torch.float32))
    return Gains(factors, frozenset(layers), locore.renormalize)
