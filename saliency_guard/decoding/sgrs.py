"""SGRS, Eq. 7 and Algorithm 1 of "Hallucination Begins Where Saliency Drops": the rules, without any model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from saliency_guard.settings import Settings


class SGRSConfig(Settings):
    """Settings of saliency-guided rejection sampling.

    Attributes:
        top_k: candidates at a position (K).
        max_resamples: candidates tried before falling back to the one with the highest score (R).
        alpha: the threshold as a part of the recent mean score, in (0, 1).
        window: how many recent scores the mean is over (W).
        min_p: candidates less probable than this part of the most probable one are none. The paper has
            no such floor (0): where the model is sure, its other candidates can be nonsense with a high
            score.
        draft_length: how many tokens are drafted before they are scored together; ``"auto"`` follows the
            rejection rate. Changes the cost, never the tokens.
    """

    top_k: Annotated[int, Field(ge=1)] = 5
    max_resamples: Annotated[int, Field(ge=1)] = 3
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.6
    window: Annotated[int, Field(ge=1)] = 5
    min_p: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    draft_length: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"


def threshold(config: SGRSConfig, history: Sequence[float]) -> float:
    """Eq. 7: ``alpha`` times the mean of the last ``window`` scores; 0 without history."""
    recent = history[-config.window :]
    return config.alpha * sum(recent) / len(recent) if recent else 0.0


UNGUARDED_DRAFT = 16
"""Tokens scored together where nothing can be rejected."""

_LONGEST_DRAFT = 32
_PRIOR_REJECTIONS, _PRIOR_TOKENS = 0.25, 8.0
# In units of one step of plain decoding, as measured by `saliency-guard bench speed`.
_CHUNK, _CHUNK_ROW, _RESAMPLE = 1.0, 0.08, 1.2
_SINGLE, _SINGLE_RESAMPLE = 0.6, 0.6


def draft_length(config: SGRSConfig, rejections: int, tokens: int) -> int:
    """How many tokens to draft: what is cheapest per token at the rejection rate seen so far.

    A draft of n tokens costs n steps and a scored chunk, and is lost from the first rejection on.

    Args:
        config: a fixed ``draft_length`` is returned as it is.
        rejections: positions so far at which the first draw was rejected.
        tokens: positions so far.
    """
    if config.draft_length != "auto":
        return config.draft_length
    rate = (rejections + _PRIOR_REJECTIONS) / (tokens + _PRIOR_TOKENS)

    def cost(length: int) -> float:
        if length == 1:
            return 1 + _SINGLE + rate * _SINGLE_RESAMPLE
        hit = 1 - (1 - rate) ** length
        return (length * (1 + _CHUNK_ROW) + _CHUNK + hit * _RESAMPLE) / (hit / rate)

    return min(range(1, _LONGEST_DRAFT + 1), key=cost)


def uniform(seed: int, position: int, round_: int) -> float:
    """The random number of one round at one position, in [0, 1).

    A function of its arguments alone, so that drafting ahead, cropping and trying again draws the
    same numbers as going one token at a time.
    """
    return random.Random(f"{seed}/{position}/{round_}").random()  # noqa: S311 - not for secrets


def candidates(scores: Tensor, top_k: int, min_p: float = 0.0) -> list[int]:
    """The most probable tokens, most probable first; tokens that are ruled out (-inf) are none.

    Args:
        scores: ``[V]`` logits as the logits processors left them.
        top_k: how many at the most.
        min_p: the floor, as a part of the highest probability.
    """
    values, tokens = scores.topk(min(top_k, scores.shape[-1]))
    kept = (values > -torch.inf) & ((values - values[0]).exp() >= min_p)
    found: list[int] = tokens[kept].tolist()
    return found


def draw(scores: Tensor, among: Sequence[int], number: float | None) -> int:
    """One of the candidates: the first (greedy), or at random in proportion to its probability.

    Args:
        scores: ``[V]`` logits as the logits processors left them.
        among: the candidates that are left, most probable first.
        number: a number in [0, 1) that decides; None takes the most probable.
    """
    if number is None:
        return among[0]
    weights = torch.softmax(scores[list(among)].cpu().double(), dim=-1).cumsum(dim=-1)
    index = int(torch.searchsorted(weights, number * float(weights[-1]), right=True))
    return among[min(index, len(among) - 1)]


def sample(scores: Tensor, number: float | None) -> int:
    """A token of the whole vocabulary: the most probable, or at random (plain decoding, no SGRS)."""
    if number is None:
        return int(scores.argmax())
    weights = torch.softmax(scores.cpu().double(), dim=-1).cumsum(dim=-1)
    index = int(torch.searchsorted(weights, number * float(weights[-1]), right=True))
    return min(index, scores.shape[-1] - 1)
