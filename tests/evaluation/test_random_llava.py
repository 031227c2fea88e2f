"""Models for timings: as large as they say, and their prompt has a picture."""

from __future__ import annotations

import torch

from saliency_guard.evaluation.random_llava import llava_prompt, random_llava, random_llava_7b
from saliency_guard.models.session import Session


def test_sizes_are_those_that_are_named() -> None:
    with torch.device("meta"):  # Without memory for its weights.
        small = random_llava()
    assert 250e6 < sum(parameter.numel() for parameter in small.parameters()) < 350e6
    large = random_llava_7b("meta")
    assert 6.9e9 < sum(parameter.numel() for parameter in large.parameters()) < 7.2e9
    assert {parameter.dtype for parameter in large.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


def test_its_prompt_has_a_picture_of_576_positions() -> None:
    model = random_llava(layers=1)
    prompt = llava_prompt(model, 600)
    assert prompt["input_ids"].shape == (1, 600)
    session = Session(model, prompt)
    assert session.layout.spans[0].stop - session.layout.spans[0].start == 576
