"""How a setting names layers: two fractions of the depth, or a list of indices."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator


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
