"""Drawing a token: random numbers that depend on the position alone, and transformers' logits processors."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

LogitsProcessor = Callable[[Tensor, Tensor], Tensor]
"""As in transformers: ``(input_ids [1, T], scores [1, V]) -> [1, V]``."""


def uniform(seed: int, position: int, round_: int) -> float:
    """The random number of one round at one position, in [0, 1).

    A function of its arguments alone, so that drafting ahead, cropping and trying again draws the same numbers as
    going one token at a time.
    """
    return random.Random(f"{seed}/{position}/{round_}").random()  # noqa: S311 - not for secrets


def draw(scores: Tensor, among: Sequence[int], number: float | None) -> int:
    """One of several candidates: the first (greedy), or at random in proportion to its probability.

    Args:
        scores: ``[V]`` logits as the logits processors left them.
        among: the candidates that are left, most probable first.
        number: a number in [0, 1) that decides; None takes the most probable.
    """
    if number is None:
        return among[0]
    return among[_index(scores[list(among)], number)]


def sample(scores: Tensor, number: float | None) -> int:
    """A token of the whole vocabulary: the most probable, or at random (plain decoding, no SGRS)."""
    return int(scores.argmax()) if number is None else _index(scores, number)


def _index(scores: Tensor, number: float) -> int:
    cumulated = torch.softmax(scores.cpu().double(), dim=-1).cumsum(dim=-1)
    index = int(torch.searchsorted(cumulated, number * float(cumulated[-1]), right=True))
    return min(index, len(cumulated) - 1)


def logits_processors(
    *,
    temperature: float,
    top_p: float,
    top_k: int | None,
    repetition_penalty: float,
    schema_mask: LogitsProcessor | None,
    custom: Sequence[LogitsProcessor],
) -> LogitsProcessor | None:
    """Logits processors in the order of transformers' `generate`; None where none changes anything.

    Args:
        temperature: 0 is greedy: what only shapes the distribution is left out then.
        top_p: nucleus to sample from.
        top_k: how many tokens to sample from; None is all.
        repetition_penalty: 1 is none.
        schema_mask: of a JSON schema, first of all.
        custom: the caller's own, before the warpers.
    """
    processors: list[LogitsProcessor] = [] if schema_mask is None else [schema_mask]
    if repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(repetition_penalty))
    processors += custom
    if temperature > 0.0:
        if temperature != 1.0:
            processors.append(TemperatureLogitsWarper(temperature))
        if top_k is not None:
            processors.append(TopKLogitsWarper(top_k))
        if top_p < 1.0:
            processors.append(TopPLogitsWarper(top_p))
    return LogitsProcessorList(processors) if processors else None  # type: ignore[return-value]


_COUNTING = ("UnbatchedClassifierFreeGuidanceLogitsProcessor", "SynthIDTextWatermarkLogitsProcessor")


def are_stateless(processors: Sequence[LogitsProcessor]) -> bool:
    """Whether processors may be asked about a position twice, as drafting does.

    Only transformers' own are trusted with that, and not those of them that count their calls.
    """
    kinds = [type(processor) for processor in processors]
    return all(kind.__module__.startswith("transformers.") and kind.__name__ not in _COUNTING for kind in kinds)
