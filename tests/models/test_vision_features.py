"""One vector a picture: the mean of what the projector hands to the decoder, and how surely it is recognised."""

from __future__ import annotations

import torch
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import RECOGNITION, picture_features


def test_each_picture_has_the_mean_of_its_own_positions(lvlm: LVLM, picture: Image.Image) -> None:
    other = Image.new("RGB", (64, 64), "red")
    parts = [{"type": "image", "image": image} for image in (picture, other)]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}]
    prepared = lvlm.prepare(messages)
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    pooled = picture_features(session)
    with torch.no_grad():
        features = lvlm.model.model.get_image_features(prepared.inputs["pixel_values"], return_dict=True).pooler_output
    expected = torch.stack([rows.float().mean(dim=0) for rows in features])
    torch.testing.assert_close(pooled[:, :-RECOGNITION], expected, atol=1e-5, rtol=1e-4)
    # How surely the projected features are named: through the final norm and the head, as they stand.
    inner = lvlm.model.model.language_model
    with torch.no_grad():
        likely = lvlm.model.lm_head(inner.norm(features[0])).softmax(-1)
    torch.testing.assert_close(pooled[0, -RECOGNITION], likely.max(-1).values.mean(), atol=1e-5, rtol=1e-3)
    entropy = torch.special.entr(likely).sum(-1)
    torch.testing.assert_close(pooled[0, -RECOGNITION + 2], entropy.mean(), atol=1e-4, rtol=1e-3)


def test_a_prompt_read_without_states_has_none(lvlm: LVLM, picture: Image.Image) -> None:
    prepared = lvlm.prepare(chat(picture, "What?"))
    assert picture_features(Session(lvlm.model, prepared.inputs, layout=prepared.layout)).shape == (0, 0)
