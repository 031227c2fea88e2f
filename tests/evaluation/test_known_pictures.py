"""A prompt about a picture that was read before is the same prompt read anew."""

from __future__ import annotations

import torch
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat_about
from saliency_guard.domain_features import domain_features
from saliency_guard.evaluation.known_pictures import KnownPictures
from saliency_guard.models.session import Session
from saliency_guard.signals.trace import read_blank

QUESTIONS = ("Describe the image.", "Is there a dog in the image?", "How many cups are there in the image?")


def test_prompts_are_those_that_are_read_anew(lvlm: LVLM, picture: Image.Image) -> None:
    known = KnownPictures(lvlm)
    shown = [[picture], [Image.new("RGB", (64, 64), "red")], [picture, picture.rotate(90)]]
    for question in QUESTIONS:
        for images in shown:
            prepared = lvlm.prepare(chat_about(images, question))
            read = known.read(prepared)
            session = read.session
            anew = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
            torch.testing.assert_close(read.domain, domain_features(lvlm.reader, anew, prepared.conversation))
            assert session.prompt_length == anew.prompt_length == prepared.length
            assert session.image_states is not None
            assert anew.image_states is not None
            for states, expected in zip(session.image_states, anew.image_states, strict=True):
                torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
            for continued, direct in ((session, anew), (read.blank(session), read_blank(anew))):
                row, expected_row = (each.run([each.last_prompt_token]).logits for each in (continued, direct))
                torch.testing.assert_close(row, expected_row, atol=1e-4, rtol=1e-4)


def test_a_picture_is_looked_at_once(lvlm: LVLM, picture: Image.Image) -> None:
    calls: list[int] = []
    hook = lvlm.model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        known = KnownPictures(lvlm)
        for question in QUESTIONS:
            read = known.read(lvlm.prepare(chat_about([picture], question)))
            read.blank(read.session)
        assert len(calls) == 3  # As it is, in the mirror, and a uniform one.
        other = known.read(lvlm.prepare(chat_about([picture.rotate(90)], QUESTIONS[0])))
        other.blank(other.session)
    finally:
        hook.remove()
    assert len(calls) == 5  # The uniform one is the same.


def test_what_was_read_before_changes_nothing(lvlm: LVLM, picture: Image.Image) -> None:
    prepared = lvlm.prepare(chat_about([picture], QUESTIONS[2]))
    known = KnownPictures(lvlm)
    for question in QUESTIONS[:2]:
        known.read(lvlm.prepare(chat_about([picture], question)))
    after, alone = known.read(prepared), KnownPictures(lvlm).read(prepared)
    assert torch.equal(after.domain, alone.domain)
    for second, first in ((after.session, alone.session), (after.blank(after.session), alone.blank(alone.session))):
        assert torch.equal(*(each.run([each.last_prompt_token]).logits for each in (second, first)))
