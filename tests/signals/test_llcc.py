"""The logit lens at the patches with most attention, by loops."""

from __future__ import annotations

import math
from importlib import import_module

import pytest
import tiny
import torch

from saliency_guard.signals.llcc import LAYERS, llcc
from saliency_guard.signals.logit_lens import logit_lens
from saliency_guard.signals.trace import AnswerTrace, trace_answer


@pytest.mark.parametrize("top", [1, 2])
def test_it_is_the_best_of_the_patches_looked_at(trace: AnswerTrace, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("saliency_guard.signals.llcc"), "TOP", top)  # Its function hides the module.
    depth = trace.attention.shape[1]
    stage = range(math.floor(LAYERS[0] * depth), math.ceil(LAYERS[1] * depth))
    for index, value in enumerate(llcc(trace).tolist()):
        attention = [
            sum(float(trace.looks[index, layer, patch]) for layer in stage) for patch in range(trace.looks.shape[2])
        ]
        looked = sorted(range(len(attention)), key=lambda patch: -attention[patch])[:top]
        named = [
            float(trace.lens[trace.lens_layers.index(layer + 1), patch, index]) for layer in stage for patch in looked
        ]
        assert value == pytest.approx(max(named), abs=1e-5)


def test_it_is_at_most_the_best_anywhere(trace: AnswerTrace) -> None:
    assert bool((llcc(trace) <= logit_lens(trace) + 1e-6).all())


def test_without_a_picture_there_is_none() -> None:
    case = tiny.build("llava-gqa")
    text = trace_answer(case.model, {"input_ids": case.inputs["input_ids"][:, [0, 1, 6, 7]]}, [5, 9])
    assert bool(torch.isnan(llcc(text)).all())
