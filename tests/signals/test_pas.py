"""Attention on the answer so far."""

from __future__ import annotations

import oracle
import pytest
import tiny

from saliency_guard.signals.pas import pas
from saliency_guard.signals.trace import AnswerTrace


def test_it_is_the_first_layers_attention_on_the_output(trace: AnswerTrace) -> None:
    case = tiny.build("llava-gqa")
    prompt = case.inputs["input_ids"].shape[1]
    tokens = trace.tokens.tolist()
    for index in (0, 3, 6):
        attention, _, _ = oracle.token_maps(case.model, case.inputs, tokens, index)
        expected = float(attention[0, :, -1, prompt:].sum(-1).mean())
        assert float(pas(trace)[index]) == pytest.approx(expected, abs=1e-6)
