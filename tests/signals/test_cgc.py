"""Similarity of states with patches, by loops."""

from __future__ import annotations

import pytest
import tiny
import torch

from saliency_guard.signals.cgc import TOP, cgc
from saliency_guard.signals.trace import AnswerTrace, trace_answer


def test_it_is_the_mean_over_layers_of_the_most_similar_patches(trace: AnswerTrace) -> None:
    values = cgc(trace).tolist()
    for index, value in enumerate(values):
        means = []
        for layer in range(1, len(trace.image_states)):
            state = trace.output_states[layer][index + 1]
            patches = trace.image_states[layer]
            similar = [float(torch.cosine_similarity(state, patch, dim=0)) for patch in patches]
            similar = sorted(similar, reverse=True)[:TOP]
            means.append(sum(similar) / len(similar))
        assert value == pytest.approx(sum(means) / len(means), abs=1e-5)


def test_without_a_picture_there_is_none() -> None:
    case = tiny.build("llava-gqa")
    text = trace_answer(case.model, {"input_ids": case.inputs["input_ids"][:, [0, 1, 6, 7]]}, [5, 9])
    assert bool(torch.isnan(cgc(text)).all())
