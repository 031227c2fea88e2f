"""The negative log-likelihood."""

from __future__ import annotations

import pytest
import torch

from saliency_guard.signals.nll import nll
from saliency_guard.signals.trace import AnswerTrace


def test_nll_is_that_of_the_token_that_was_written(trace: AnswerTrace) -> None:
    probabilities = torch.distributions.Categorical(logits=trace.logits)
    assert nll(trace).tolist() == pytest.approx((-probabilities.log_prob(trace.tokens)).tolist(), rel=1e-4)
