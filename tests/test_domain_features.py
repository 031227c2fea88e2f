from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageOps

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat_about
from saliency_guard.domain_features import domain_features, look_in_mirror
from saliency_guard.models.picture_change import entered_pictures, picture_changes
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import picture_features


def test_the_last_number_is_how_much_changes_in_a_mirror(lvlm: LVLM, picture: Image.Image) -> None:
    images = [picture, picture.rotate(180)]
    prepared = lvlm.prepare(chat_about(images, "Which picture shows a dog?"))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    hooks = {module: tuple(module._forward_pre_hooks) for module in lvlm.model.modules()}
    features = domain_features(lvlm.reader, session, prepared.conversation)
    assert hooks == {module: tuple(module._forward_pre_hooks) for module in lvlm.model.modules()}
    torch.testing.assert_close(features[:, :-1], picture_features(session))
    mirrored = lvlm.prepare(chat_about([ImageOps.mirror(image) for image in images], "Something else."))
    assert session.image_states is not None
    (entered,) = entered_pictures(lvlm.model, [(mirrored.inputs, mirrored.layout)])
    expected = picture_changes(lvlm.model, prepared.layout, session.image_states[0], entered, mirrored.layout)
    torch.testing.assert_close(features[:, -1], expected)
    assert (features[:, -1] > 0).all()


def test_without_the_pictures_themselves_it_is_not_known(lvlm: LVLM, picture: Image.Image) -> None:
    prepared = lvlm.prepare(chat_about([picture], "What?"))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    features = domain_features(lvlm.reader, session, None)
    assert features[0, -1].isnan()
    assert features[0, :-1].isfinite().all()
    unread = Session(lvlm.model, prepared.inputs, layout=prepared.layout)
    assert len(domain_features(lvlm.reader, unread, prepared.conversation)) == 0


def test_a_prompt_is_looked_at_once(lvlm: LVLM, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = lvlm.prepare(chat_about([picture], "What?"))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    first = domain_features(lvlm.reader, session, prepared.conversation)
    monkeypatch.setattr("saliency_guard.domain_features.picture_changes", None)
    twin = session.fork(locore=None, layout=prepared.layout)
    assert torch.equal(domain_features(lvlm.reader, twin, prepared.conversation), first)


def test_several_prompts_are_looked_at_side_by_side(lvlm: LVLM, picture: Image.Image) -> None:
    images = [[picture], [picture.rotate(180)], [picture, picture.rotate(90)]]
    prepared = [lvlm.prepare(chat_about(shown, "What?")) for shown in images]
    prompts = [
        (Session(lvlm.model, each.inputs, layout=each.layout, with_image_states=True), each.conversation)
        for each in prepared
    ]
    look_in_mirror(lvlm.reader, [*prompts, (Session(lvlm.model, prepared[0].inputs), prepared[0].conversation)])
    for session, conversation in prompts:
        assert session.picture_changes is not None
        alone = session.fork(locore=None, layout=session.layout)
        alone.picture_changes = None
        torch.testing.assert_close(
            domain_features(lvlm.reader, alone, conversation)[:, -1], session.picture_changes, rtol=1e-4, atol=1e-5
        )
