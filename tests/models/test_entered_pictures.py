"""What enters the first layer at pictures, of several prompts side by side."""

from __future__ import annotations

import torch
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat_about
from saliency_guard.models.entered_pictures import entered_pictures


def test_prompts_of_the_same_shapes_are_read_side_by_side(lvlm: LVLM, picture: Image.Image) -> None:
    shown = [[picture], [picture, picture.rotate(90)], [picture.rotate(180)], *[[picture.rotate(k)] for k in range(8)]]
    prepared = [lvlm.prepare(chat_about(images, "?")) for images in shown]
    prompts = [(prompt.inputs, prompt.layout) for prompt in prepared]
    calls: list[int] = []
    hook = lvlm.model.model.vision_tower.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    try:
        together = entered_pictures(lvlm.model, prompts)
    finally:
        hook.remove()
    assert sorted(calls) == [2, 2, 8]  # Eight of the ten with one picture, the two that are left, the one with two.
    for prompt, states in zip(prompts, together, strict=True):
        torch.testing.assert_close(states, entered_pictures(lvlm.model, [prompt])[0], rtol=1e-4, atol=1e-5)
