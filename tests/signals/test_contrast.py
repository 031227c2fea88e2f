"""The contrast with a blank picture."""

from __future__ import annotations

import torch

from saliency_guard.signals.contrast import contrast
from saliency_guard.signals.trace import AnswerTrace


def test_contrast_is_the_log_ratio_of_the_probabilities_with_and_without_the_picture(trace: AnswerTrace) -> None:
    ratio = trace.scores.logprobs.exp() / trace.blank_logprobs.exp()
    torch.testing.assert_close(contrast(trace), ratio.log(), rtol=1e-4, atol=1e-5)
    assert float(contrast(trace).abs().max()) > 1e-3
