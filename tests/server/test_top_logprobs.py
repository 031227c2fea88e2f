from __future__ import annotations

import pytest
import torch

from saliency_guard.server.top_logprobs import TopLogprobs


def test_the_likeliest_tokens_are_noted_and_nothing_is_changed() -> None:
    noted = TopLogprobs(2, prompt_length=3)
    scores = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    assert noted(torch.zeros(1, 3, dtype=torch.long), scores) is scores
    noted(torch.zeros(1, 4, dtype=torch.long), scores.flip(-1))
    expected = torch.log_softmax(scores[0], dim=-1)
    assert noted.at(0) == [(1, pytest.approx(float(expected[1]))), (3, pytest.approx(float(expected[3])))]
    assert [token_id for token_id, _ in noted.at(1)] == [2, 0]


def test_there_are_no_more_than_the_vocabulary_has() -> None:
    noted = TopLogprobs(20, prompt_length=0)
    noted(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 4))
    assert len(noted.at(0)) == 4
