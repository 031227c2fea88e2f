"""Random numbers of a position, and logits processors in the order of transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, TemperatureLogitsWarper

from saliency_guard.decoding.sampling import are_stateless, logits_processors, uniform

PLAIN: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": None,
    "repetition_penalty": 1.0,
    "schema_mask": None,
    "custom": (),
}


class Own(LogitsProcessor):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


def names(**settings: Any) -> list[str]:
    processors: Any = logits_processors(**{**PLAIN, **settings})
    return [] if processors is None else [type(processor).__name__ for processor in processors]


def test_numbers_belong_to_seed_position_and_round() -> None:
    numbers = {uniform(seed, position, round_) for seed in range(3) for position in range(3) for round_ in range(3)}
    assert len(numbers) == 27
    assert all(0 <= number < 1 for number in numbers)
    assert uniform(1, 2, 0) == uniform(1, 2, 0) != uniform(2, 1, 0)


def test_what_changes_nothing_is_left_out() -> None:
    assert logits_processors(**PLAIN) is None
    assert names(top_p=0.5, top_k=4) == []  # Greedy: they cannot change the most probable token.
    assert names(temperature=1.0) == []


def test_the_order_is_that_of_transformers() -> None:
    assert names(temperature=0.5, top_p=0.9, top_k=4, repetition_penalty=1.2, custom=[Own()]) == [
        "RepetitionPenaltyLogitsProcessor",
        "Own",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
    ]


def test_only_processors_of_transformers_may_be_called_twice() -> None:
    assert are_stateless([TemperatureLogitsWarper(0.5)])
    assert not are_stateless([TemperatureLogitsWarper(0.5), Own()])
