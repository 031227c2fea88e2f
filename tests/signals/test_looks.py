"""Attention patch by patch against transformers' own, grids, and parts of a grid that touch."""

from __future__ import annotations

import oracle
import tiny
import torch

from saliency_guard.signals.looks import picture_grids
from saliency_guard.signals.trace import AnswerTrace


def test_attention_on_every_patch_is_transformers_own(trace: AnswerTrace) -> None:
    case = tiny.build("llava-gqa")
    pictures = (case.inputs["input_ids"][0] == tiny.IMAGE).nonzero()[:, 0]
    before = [layer.clone() for layer in trace.blank.sessions[trace.number].image_states or ()]
    assert before
    for index in (0, 3, 6):
        attention, _, _ = oracle.token_maps(case.model, case.inputs, trace.tokens.tolist(), index)
        expected = attention[:, :, -1, pictures].mean(dim=1)
        torch.testing.assert_close(trace.looks[index].double(), expected.double(), atol=1e-6, rtol=1e-4)
    after = trace.blank.sessions[trace.number].image_states or ()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_pictures_are_squares_of_patches_or_unknown() -> None:
    assert picture_grids(["image_0"] * 4) == [(0, 2)]
    assert picture_grids(["image_0"] * 9 + ["image_1"] * 4) == [(0, 3), (9, 2)]
    assert picture_grids(["image_0"] * 6) is None
    assert picture_grids([]) == []
