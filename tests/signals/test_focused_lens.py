"""The logit lens where the token looks."""

from __future__ import annotations

import pytest
import tiny
import torch

from saliency_guard.signals.focused_lens import focused_lens
from saliency_guard.signals.logit_lens import logit_lens
from saliency_guard.signals.trace import AnswerTrace, trace_answer


def test_positions_count_by_the_saliency_on_them(trace: AnswerTrace) -> None:
    for index, value in enumerate(focused_lens(trace).tolist()):
        row = trace.rows[index, trace.lens_positions]
        by_layer = [float((row / row.sum()) @ layer[:, index].exp()) for layer in trace.lens]
        assert value == pytest.approx(float(torch.tensor(max(by_layer)).log()), rel=1e-4)


def test_a_mean_is_at_most_the_best_position(trace: AnswerTrace) -> None:
    assert bool((focused_lens(trace) <= logit_lens(trace) + 1e-6).all())


def test_without_a_picture_there_is_none() -> None:
    case = tiny.build("llava-gqa")
    text = trace_answer(case.model, {"input_ids": case.inputs["input_ids"][:, [0, 1, 6, 7]]}, [5, 9])
    assert bool(torch.isnan(focused_lens(text)).all())
