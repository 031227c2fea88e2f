"""Maps over pictures against brute-force autograd on the whole sequence."""

from __future__ import annotations

from typing import Any

import families
import oracle
import pytest
import tiny
import torch

from saliency_guard import SaliencyConfig, UnsupportedModelError
from saliency_guard.models.session import Session
from saliency_guard.signals.picture_maps import picture_maps
from saliency_guard.signals.trace import AnswerTrace, trace_answers


def traced(case: Any, answer: list[int]) -> tuple[Session, AnswerTrace]:
    session = Session(case.model, case.inputs, with_image_states=True)
    return session, trace_answers([session], [answer], SaliencyConfig())[0]


@pytest.mark.parametrize("name", ["llava-gqa", "gemma3", "internvl", "qwen2-vl"])
def test_every_layers_map_is_brute_force(name: str) -> None:
    case = tiny.build(name)
    session, trace = traced(case, tiny.ANSWER)
    before = [layer.clone() for layer in session.image_states or ()]
    maps = picture_maps(session, trace)
    positions = trace.image_positions
    for index in (0, 3, len(tiny.ANSWER) - 1):
        attention, gradient, _ = oracle.token_maps(case.model, case.inputs, tiny.ANSWER, index)
        product = (attention * gradient).abs().mean(dim=1)[:, -1]  # [L, T] of the row that predicts the token
        rows = product / product.norm(dim=-1, keepdim=True)
        expected = attention[:, :, -1].mean(dim=1)[:, positions]
        assert maps.layers == tuple(range(len(expected)))
        torch.testing.assert_close(maps.attention[index].double(), expected.double(), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(maps.saliency[index].double(), rows[:, positions].double(), atol=1e-6, rtol=1e-4)
    assert maps.owners == tuple(trace.layout.picture_owners)
    assert before
    assert all(torch.equal(*pair) for pair in zip(before, session.image_states or (), strict=True))


def test_the_mean_is_over_the_target_layers_and_the_lens_is_a_probability() -> None:
    session, trace = traced(tiny.build("llava-gqa"), tiny.ANSWER)
    maps = picture_maps(session, trace)
    targets = SaliencyConfig().layers
    assert targets == (0.5, 1.0)
    upper = maps.saliency[:, len(maps.layers) // 2 :]
    torch.testing.assert_close(maps.mean_saliency, upper.mean(dim=1), atol=1e-6, rtol=1e-4)
    assert maps.lens.shape == (len(tiny.ANSWER), len(maps.lens_layers), len(trace.image_positions))
    assert bool(((maps.lens >= 0.0) & (maps.lens <= 1.0)).all())
    assert maps.best_lens.shape == maps.mean_attention.shape == maps.mean_saliency.shape


def test_pictures_that_take_no_positions_have_no_map() -> None:
    session, trace = traced(families.build("mllama"), tiny.ANSWER)
    with pytest.raises(UnsupportedModelError, match="no positions"):
        picture_maps(session, trace)
