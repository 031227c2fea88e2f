"""What comes next after several prompts that begin alike: what the model itself says after each alone."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.models.prompt_batch import next_logits
from saliency_guard.models.session import Session

QUESTIONS = ["Is it a cat?", "Is there any dog at the top left of this picture, or a cat?", "What?", "Is it a cup?"]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_each_prompt_is_continued_as_alone(lvlm: LVLM, picture: Image.Image, batch_size: int) -> None:
    prompts = [lvlm.prepare(chat(picture, question)) for question in QUESTIONS]
    base = Session(lvlm.model, prompts[0].inputs, layout=prompts[0].layout)
    before = base.length
    logits_of = next_logits(base, [(prompt.inputs, prompt.layout) for prompt in prompts], batch_size=batch_size)
    assert base.length == before
    for prompt, logits in zip(prompts, logits_of, strict=True):
        with torch.no_grad():
            whole = lvlm.model(**prompt.inputs).logits[0, -1]
        torch.testing.assert_close(logits, whole, atol=2e-4, rtol=1e-4)


def test_a_prompt_with_another_picture_is_read_by_itself(lvlm: LVLM, picture: Image.Image) -> None:
    mine, other = (lvlm.prepare(chat(image, "What?")) for image in (picture, Image.new("RGB", (64, 64), "red")))
    base = Session(lvlm.model, mine.inputs, layout=mine.layout)
    (logits,) = next_logits(base, [(other.inputs, other.layout)])
    with torch.no_grad():
        whole = lvlm.model(**other.inputs).logits[0, -1]
    torch.testing.assert_close(logits, whole, atol=2e-4, rtol=1e-4)
    assert next_logits(base, []) == []
