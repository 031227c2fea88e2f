"""Similarity of a token with the picture."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from saliency_guard.signals.glsim import glsim
from saliency_guard.signals.trace import AnswerTrace


def test_it_weighs_the_last_prompt_position_and_the_positions_that_show_the_token(trace: AnswerTrace) -> None:
    layer = 4  # Of six states (embeddings and five layers) the one at three quarters of the depth.
    image, output = trace.image_states[layer], trace.output_states[layer]
    for index, value in enumerate(glsim(trace).tolist()):
        token = output[index + 1]
        whole = functional.cosine_similarity(token, output[0], dim=0)
        local = functional.cosine_similarity(token[None], image).mean()  # All eight positions are among the best eight.
        assert value == pytest.approx(float(0.6 * whole + 0.4 * local), rel=1e-3, abs=1e-5)


def test_a_token_that_is_the_picture_is_as_similar_as_can_be(trace: AnswerTrace) -> None:
    image = tuple(torch.ones_like(states) for states in trace.image_states)
    output = tuple(torch.ones_like(states) for states in trace.output_states)
    assert glsim(dataclasses.replace(trace, image_states=image, output_states=output)).tolist() == pytest.approx(
        [1] * 7
    )
