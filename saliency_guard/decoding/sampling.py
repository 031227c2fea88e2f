"""Sampling settings as logits processors and a seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real

from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from saliency_guard.errors import ConfigError, shown

LARGEST_SEED = 2**64
"""Seeds lie below this, and above its negative."""


def sampling_rules(
    max_new_tokens: int, temperature: float, top_p: float, seed: int | None
) -> tuple[Callable[[Tensor, Tensor], Tensor] | None, int | None]:
    """Logits processors and a seed; both None for greedy decoding.

    Raises:
        ConfigError: if a setting is of the wrong kind or out of range.
    """
    for name, value, kind in (
        ("max_new_tokens", max_new_tokens, Integral),
        ("temperature", temperature, Real),
        ("top_p", top_p, Real),
        ("seed", 0 if seed is None else seed, Integral),
    ):
        if not isinstance(value, kind) or isinstance(value, bool):
            msg = f"{name} must be {'a whole number' if kind is Integral else 'a number'}, not {shown(value)}"
            raise ConfigError(msg)
    if seed is not None and not -LARGEST_SEED < seed < LARGEST_SEED:
        msg = f"seed must lie between -2**64 and 2**64, not {shown(seed)}"
        raise ConfigError(msg)
    at_least_one("max_new_tokens", max_new_tokens)
    if not 0.0 <= temperature < float("inf"):
        msg = f"temperature must be 0 (greedy) or more, not {shown(temperature)}"
        raise ConfigError(msg)
    if not 0.0 < top_p <= 1.0:
        msg = f"top_p must be in (0, 1], not {shown(top_p)}"
        raise ConfigError(msg)
    if temperature == 0.0:
        return None, None
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(temperature))])
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p))
    return warpers, int.from_bytes(os.urandom(7)) if seed is None else seed  # type: ignore[return-value]


def one_for_each(seed: int | Sequence[int] | None, count: int) -> list[int | None]:
    """A seed for each of several answers: the same for all, or as given.

    Raises:
        ConfigError: if as many seeds as answers were not given.
    """
    if seed is None or isinstance(seed, Integral):
        return [seed] * count  # type: ignore[list-item]
    seeds = list(seed) if isinstance(seed, Sequence) and not isinstance(seed, str) else []
    if len(seeds) != count:
        msg = f"seed must be one number, or one for each of the {count} answers, not {shown(seed)}"
        raise ConfigError(msg)
    return list(seeds)


def at_least_one(name: str, value: int) -> int:
    """A whole number above 0.

    Raises:
        ConfigError: if it is anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        msg = f"{name} must be a whole number of at least 1, not {shown(value)}"
        raise ConfigError(msg)
    return int(value)
