"""The numbers of each picture, against the model's own projector, norm and head."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageOps

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat, chat_about
from saliency_guard.models import vision_features
from saliency_guard.models.entered_pictures import entered_pictures
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import RECOGNITION, Mirrored, picture_features, spread


def read(lvlm: LVLM, images: list[Image.Image]) -> Session:
    prepared = lvlm.prepare(chat_about(images, "What?"))
    return Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)


def reflected(lvlm: LVLM, images: list[Image.Image]) -> Mirrored:
    prepared = lvlm.prepare(chat_about(images, "Something else?"))
    (states,) = entered_pictures(lvlm.model, [(prepared.inputs, prepared.layout)])
    return Mirrored(states, prepared.layout)


def likely(lvlm: LVLM, image: Image.Image) -> torch.Tensor:
    """``[positions, V]`` by the logit lens, from the model's parts."""
    pixels = lvlm.prepare(chat(image, "?")).inputs["pixel_values"]
    with torch.no_grad():
        features = lvlm.model.model.get_image_features(pixels, return_dict=True).pooler_output[0]
        return lvlm.model.lm_head(lvlm.model.model.language_model.norm(features)).softmax(-1)


def test_each_picture_has_the_mean_of_its_own_positions(lvlm: LVLM, picture: Image.Image) -> None:
    images = [picture, Image.new("RGB", (64, 64), "red")]
    session = read(lvlm, images)
    (rows,) = picture_features([session], [None])
    pixels = session.inputs["pixel_values"]
    with torch.no_grad():
        features = lvlm.model.model.get_image_features(pixels, return_dict=True).pooler_output
    expected = torch.stack([each.float().mean(dim=0) for each in features])
    torch.testing.assert_close(rows[:, : -RECOGNITION - 1], expected, atol=1e-5, rtol=1e-4)
    # How surely the projected features are named: through the final norm and the head, as they stand.
    recognition = rows[:, -RECOGNITION - 1 : -1]
    for row, image in zip(recognition, images, strict=True):
        words = likely(lvlm, image)
        torch.testing.assert_close(row[0], words.max(-1).values.mean(), atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(row[2], torch.special.entr(words).sum(-1).mean(), atol=1e-4, rtol=1e-3)
    assert rows[:, -1].isnan().all()  # Nothing was mirrored.


def test_each_picture_is_compared_with_its_own_mirror_image(lvlm: LVLM, picture: Image.Image) -> None:
    images = [picture, Image.new("RGB", (64, 64), "red"), picture.rotate(90)]
    mirrored = [ImageOps.mirror(image) for image in images]
    expected = torch.stack(
        [
            (likely(lvlm, image).amax(0) - likely(lvlm, other).amax(0)).abs().sum()
            for image, other in zip(images, mirrored, strict=True)
        ]
    )
    sessions = [read(lvlm, images), read(lvlm, images), read(lvlm, mirrored)]
    reflections = [reflected(lvlm, mirrored), reflected(lvlm, images), reflected(lvlm, images)]
    there, same, back = (rows[:, -1] for rows in picture_features(sessions, reflections))
    torch.testing.assert_close(there, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(back, expected, atol=1e-4, rtol=1e-4)
    assert same.max() < 1e-4


def test_other_numbers_of_pictures_are_not_compared(lvlm: LVLM, picture: Image.Image) -> None:
    (rows,) = picture_features([read(lvlm, [picture])], [reflected(lvlm, [picture, picture])])
    assert rows[:, -1].isnan().all()
    assert rows[:, :-1].isfinite().all()


def test_of_many_positions_some_are_looked_at_all_over_the_picture() -> None:
    states = torch.randn(190, 8)
    assert torch.equal(spread(states), states[::3])
    assert torch.equal(spread(states[:64]), states[:64])


def test_however_many_pictures_share_a_product_the_numbers_are_the_same(
    lvlm: LVLM, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [[picture, picture.rotate(90)], [picture.rotate(180)]]
    sessions = [read(lvlm, images) for images in shown]
    reflections = [reflected(lvlm, [ImageOps.mirror(image) for image in shown[0]]), None]
    together = picture_features(sessions, reflections)
    monkeypatch.setattr(vision_features, "_MOST_LOGITS", 1)
    for rows, alone in zip(together, picture_features(sessions, reflections), strict=True):
        torch.testing.assert_close(rows, alone, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_prompt_read_without_states_has_none(lvlm: LVLM, picture: Image.Image) -> None:
    prepared = lvlm.prepare(chat(picture, "What?"))
    unread = Session(lvlm.model, prepared.inputs, layout=prepared.layout)
    assert picture_features([unread], [None])[0].shape == (0, 0)
    beside = picture_features([unread, read(lvlm, [picture])], [None, None])
    assert [len(rows) for rows in beside] == [0, 1]
