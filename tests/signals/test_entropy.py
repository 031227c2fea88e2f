"""The entropy of the predicting distribution."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from saliency_guard.signals.entropy import entropy
from saliency_guard.signals.trace import AnswerTrace


def test_entropy_is_that_of_the_distribution(trace: AnswerTrace) -> None:
    expected = torch.distributions.Categorical(logits=trace.logits).entropy()
    torch.testing.assert_close(entropy(trace), expected, rtol=1e-4, atol=1e-5)


def test_tokens_that_a_processor_forbids_add_nothing(trace: AnswerTrace) -> None:
    logits = torch.full_like(trace.logits, -torch.inf)
    logits[:, :2] = 0.0
    assert entropy(dataclasses.replace(trace, logits=logits)).tolist() == pytest.approx([math.log(2)] * 7)
