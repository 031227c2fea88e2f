"""Attention on the pictures."""

from __future__ import annotations

import oracle
import pytest
import tiny

from saliency_guard.signals.svar import svar
from saliency_guard.signals.trace import AnswerTrace


def test_it_is_the_middle_layers_attention_on_the_pictures(trace: AnswerTrace) -> None:
    case = tiny.build("llava-gqa")
    pictures = (case.inputs["input_ids"][0] == tiny.IMAGE).nonzero()[:, 0]
    attention, _, _ = oracle.token_maps(case.model, case.inputs, trace.tokens.tolist(), 4)
    by_layer = attention[:, :, -1, pictures].sum(-1).mean(1)
    # Of five layers those from 5/32 to 19/32 of the depth.
    assert float(svar(trace)[4]) == pytest.approx(float(by_layer[0:3].mean()), abs=1e-6)
