"""What is read off a picture and off its mirror image, against the model's own projector, norm and head."""

from __future__ import annotations

import torch
from PIL import Image, ImageOps

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat, chat_about
from saliency_guard.models.picture_change import entered_pictures, picture_changes, words_seen
from saliency_guard.models.session import Session


def likely(lvlm: LVLM, image: Image.Image) -> torch.Tensor:
    """``[positions, V]`` by the logit lens, from the model's parts."""
    pixels = lvlm.prepare(chat(image, "?")).inputs["pixel_values"]
    with torch.no_grad():
        features = lvlm.model.model.get_image_features(pixels, return_dict=True).pooler_output[0]
        return lvlm.model.lm_head(lvlm.model.model.language_model.norm(features)).softmax(-1)


def changes(lvlm: LVLM, images: list[Image.Image], others: list[Image.Image]) -> torch.Tensor:
    prepared, mirrored = (lvlm.prepare(chat_about(shown, "What?")) for shown in (images, others))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    assert session.image_states is not None
    (entered,) = entered_pictures(lvlm.model, [(mirrored.inputs, mirrored.layout)])
    return picture_changes(lvlm.model, prepared.layout, session.image_states[0], entered, mirrored.layout)


def test_each_picture_is_compared_with_its_own_mirror_image(lvlm: LVLM, picture: Image.Image) -> None:
    images = [picture, Image.new("RGB", (64, 64), "red"), picture.rotate(90)]
    mirrored = [ImageOps.mirror(image) for image in images]
    expected = [
        (likely(lvlm, image).amax(0) - likely(lvlm, other).amax(0)).abs().sum()
        for image, other in zip(images, mirrored, strict=True)
    ]
    torch.testing.assert_close(changes(lvlm, images, mirrored), torch.stack(expected), atol=1e-4, rtol=1e-4)
    assert changes(lvlm, images, images).max() < 1e-4
    torch.testing.assert_close(changes(lvlm, mirrored, images), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_of_many_positions_some_are_looked_at_all_over_the_picture(lvlm: LVLM) -> None:
    states = torch.randn(190, lvlm.model.config.get_text_config().hidden_size)
    with torch.no_grad():
        expected = lvlm.model.lm_head(lvlm.model.model.language_model.norm(states[::3])).softmax(-1).amax(0)
    seen = words_seen(lvlm.model, states)
    assert seen is not None
    torch.testing.assert_close(seen, expected)


def test_other_numbers_of_pictures_are_not_compared(lvlm: LVLM, picture: Image.Image) -> None:
    assert changes(lvlm, [picture], [picture, picture]).isnan().all()


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
