"""The share of the answer so far."""

from __future__ import annotations

import pytest

from saliency_guard.signals.output_share import output_share
from saliency_guard.signals.trace import AnswerTrace


def test_it_is_what_the_prompt_leaves(trace: AnswerTrace) -> None:
    prompt = sum(share for source, share in trace.scores.shares.items() if source != "output")
    assert output_share(trace).tolist() == pytest.approx((1 - prompt).tolist(), abs=1e-6)
    assert float(output_share(trace)[0]) == 0.0
    assert float(output_share(trace)[1:].min()) > 0.0
