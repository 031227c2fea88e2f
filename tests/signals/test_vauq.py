"""Entropy with the picture and with a uniform one, by transformers' own passes."""

from __future__ import annotations

import pytest
import tiny
import torch

from saliency_guard.models.session import blank_inputs
from saliency_guard.signals.trace import AnswerTrace
from saliency_guard.signals.vauq import WEIGHT, vauq


def entropies(case: tiny.Case, inputs: dict[str, torch.Tensor], answer: list[int]) -> list[float]:
    ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
    whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        logits = case.model(**whole).logits[0, inputs["input_ids"].shape[1] - 1 : -1].double()
    return [float(-(row.softmax(-1) * row.log_softmax(-1)).sum()) for row in logits]


def test_it_is_entropy_minus_what_the_picture_takes_away(trace: AnswerTrace) -> None:
    case = tiny.build("llava-gqa")
    seen = entropies(case, case.inputs, trace.tokens.tolist())
    unseen = entropies(case, blank_inputs(case.inputs), trace.tokens.tolist())
    expected = [with_ - WEIGHT * (without - with_) for with_, without in zip(seen, unseen, strict=True)]
    assert vauq(trace).tolist() == pytest.approx(expected, abs=1e-4)
