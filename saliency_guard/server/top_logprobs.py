"""The likeliest tokens at every position of an answer, noted while it is written."""

from __future__ import annotations

import torch
from torch import Tensor

Alternatives = list[tuple[int, float]]
"""Token ids and their log-probabilities, the likeliest first."""


class TopLogprobs:
    """A logits processor that changes nothing.

    Args:
        count: how many tokens to note.
        prompt_length: ids before the answer.
    """

    def __init__(self, count: int, prompt_length: int) -> None:
        self._count = count
        self._prompt_length = prompt_length
        self._known: dict[int, Alternatives] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores [1, V]`` of what follows ``input_ids [1, T]``, noted."""
        logprobs = torch.log_softmax(scores[0].float(), dim=-1)
        values, ids = logprobs.topk(min(self._count, len(logprobs)))
        self._known[input_ids.shape[1] - self._prompt_length] = list(zip(ids.tolist(), values.tolist(), strict=True))
        return scores

    def at(self, position: int) -> Alternatives:
        """Those at a position of the answer, from 0."""
        return self._known[position]
