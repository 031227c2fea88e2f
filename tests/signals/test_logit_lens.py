"""The logit lens at the pictures."""

from __future__ import annotations

import tiny
import torch

from saliency_guard.signals.logit_lens import logit_lens
from saliency_guard.signals.trace import AnswerTrace, trace_answer


def test_it_is_the_best_position_of_all_layers(trace: AnswerTrace) -> None:
    values = logit_lens(trace)
    assert all(bool((trace.lens[..., index] <= value).all()) for index, value in enumerate(values))
    assert values.tolist() == trace.lens.flatten(0, 1).amax(0).tolist()


def test_without_a_picture_there_is_none() -> None:
    case = tiny.build("llava-gqa")
    text = trace_answer(case.model, {"input_ids": case.inputs["input_ids"][:, [0, 1, 6, 7]]}, [5, 9])
    assert bool(torch.isnan(logit_lens(text)).all())
