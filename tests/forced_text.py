"""A model that writes what a test wants it to."""

from __future__ import annotations

from typing import Any

import torch


class Writes:
    """A logits processor that makes a model write one text, in every attempt.

    Args:
        tokenizer: of the model.
        text: what it writes.
    """

    def __init__(self, tokenizer: Any, text: str) -> None:
        self.ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        self.start: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        length = input_ids.shape[1]
        if self.start is None or length < self.start:
            self.start = length
        only = torch.full_like(scores, -torch.inf)
        only[:, self.ids[min(length - self.start, len(self.ids) - 1)]] = 0.0
        return only
