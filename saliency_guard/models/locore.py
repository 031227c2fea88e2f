"""LocoRE, Eq. 8 to 10 of "Hallucination Begins Where Saliency Drops": the gains, without any model.

The newest output tokens get a little more attention from the query that predicts the next one:
``gamma_j = 1 + beta`` for output positions ``j`` with ``P - j <= window``, where ``P`` is the query's
position (that of the token just generated), and 1 elsewhere.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from saliency_guard.settings import Settings


def _checked(value: tuple[float, ...] | list[int]) -> tuple[float, ...] | list[int]:
    if isinstance(value, tuple) and (len(value) != 2 or not 0 <= value[0] < value[1] <= 1):
        msg = f"a tuple of layers is two fractions 0 <= a < b <= 1 of the depth, not {value}; indices go in a list"
        raise ValueError(msg)
    if isinstance(value, list) and not value:
        msg = "the list of layers is empty"
        raise ValueError(msg)
    return value


def _listed(value: object) -> object:
    """Ranges, arrays and lists of any integers as a plain list; the rest as it is."""
    if isinstance(value, (tuple, str)) or not isinstance(value, Iterable):
        return value
    return [operator.index(item) if hasattr(item, "__index__") else item for item in value]


LayerChoice = Annotated[tuple[float, ...] | list[int], BeforeValidator(_listed), AfterValidator(_checked)]
"""Two fractions of the depth (a tuple of floats), or layer indices (a list of ints)."""


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


def gains(config: LocoREConfig, first_query: int, queries: int, output_start: int) -> Tensor | None:
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
    query = torch.arange(first_query, last + 1)[:, None]
    key = torch.arange(last + 1)[None, :]
    inside = (key >= output_start) & (key <= query) & (query - key <= config.window)
    return torch.where(inside, 1.0 + config.beta, 1.0).double()
