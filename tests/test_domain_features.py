from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageOps

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat_about
from saliency_guard.domain_features import domain_features, look_at_pictures
from saliency_guard.models.entered_pictures import entered_pictures
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import Mirrored, picture_features


def test_pictures_are_looked_at_once_more_in_a_mirror(lvlm: LVLM, picture: Image.Image) -> None:
    images = [picture, picture.rotate(180)]
    prepared = lvlm.prepare(chat_about(images, "Which picture shows a dog?"))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    hooks = {module: tuple(module._forward_pre_hooks) for module in lvlm.model.modules()}
    features = domain_features(lvlm.reader, session, prepared.conversation)
    assert hooks == {module: tuple(module._forward_pre_hooks) for module in lvlm.model.modules()}
    mirrored = lvlm.prepare(chat_about([ImageOps.mirror(image) for image in images], "Something else."))
    (entered,) = entered_pictures(lvlm.model, [(mirrored.inputs, mirrored.layout)])
    torch.testing.assert_close(features, picture_features([session], [Mirrored(entered, mirrored.layout)])[0])
    assert (features[:, -1] > 0).all()


def test_without_the_pictures_themselves_the_change_is_not_known(lvlm: LVLM, picture: Image.Image) -> None:
    prepared = lvlm.prepare(chat_about([picture], "What?"))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    features = domain_features(lvlm.reader, session, None)
    assert features[0, -1].isnan()
    assert features[0, :-1].isfinite().all()
    assert domain_features(lvlm.reader, session, prepared.conversation).isfinite().all()  # Once they are.
    unread = Session(lvlm.model, prepared.inputs, layout=prepared.layout)
    assert len(domain_features(lvlm.reader, unread, prepared.conversation)) == 0
    unread.require_image_states()
    assert domain_features(lvlm.reader, unread, prepared.conversation).isfinite().all()


def test_a_prompt_is_looked_at_once(lvlm: LVLM, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = lvlm.prepare(chat_about([picture], "What?"))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    first = domain_features(lvlm.reader, session, prepared.conversation)
    monkeypatch.setattr("saliency_guard.domain_features.picture_features", None)
    twin = session.fork(locore=None, layout=prepared.layout)
    assert torch.equal(domain_features(lvlm.reader, twin, prepared.conversation), first)


def test_several_prompts_are_looked_at_side_by_side(lvlm: LVLM, picture: Image.Image) -> None:
    images = [[picture], [picture.rotate(180)], [picture, picture.rotate(90)]]
    prepared = [lvlm.prepare(chat_about(shown, "What?")) for shown in images]
    prompts = [
        (Session(lvlm.model, each.inputs, layout=each.layout, with_image_states=True), each.conversation)
        for each in prepared
    ]
    domain_features(lvlm.reader, *prompts[1])  # One of them was looked at before.
    unread = (Session(lvlm.model, prepared[0].inputs), prepared[0].conversation)
    features = look_at_pictures(lvlm.reader, [prompts[0], unread, *prompts[1:]])
    assert [len(rows) for rows in features] == [1, 0, 1, 2]
    for (session, conversation), rows in zip(prompts, [features[0], *features[2:]], strict=True):
        alone = session.fork(locore=None, layout=session.layout)
        alone.picture_features = None
        torch.testing.assert_close(domain_features(lvlm.reader, alone, conversation), rows, rtol=1e-4, atol=1e-5)
