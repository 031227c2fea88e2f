"""Rows of answers side by side."""

from __future__ import annotations

import pytest
import torch

from saliency_guard.signals.answer_rows import batched, next_entropies, padded


def test_answers_are_padded_at_their_ends() -> None:
    together = padded([torch.tensor([5, 6, 7]), torch.tensor([8])])
    assert together.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]


def test_entropy_of_what_is_ruled_out_is_nothing() -> None:
    logits = torch.tensor([[[0.0, 0.0, -float("inf")], [0.0, -float("inf"), -float("inf")]]])
    assert next_entropies(logits)[0].tolist() == pytest.approx([torch.tensor(2.0).log().item(), 0.0], abs=1e-6)


def test_one_answer_is_a_batch_of_one() -> None:
    assert batched(torch.zeros(3, 5)).shape == (1, 3, 5)
    assert batched(torch.zeros(2, 3, 5)).shape == (2, 3, 5)
