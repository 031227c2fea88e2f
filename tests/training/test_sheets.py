"""Training texts are what the chat template makes of messages, token for token."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard.chat.layout import prompt_layout
from saliency_guard.embedded.architecture import build_model, build_processor
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training.mixture import MIXTURE
from saliency_guard.training.rows import Encoder
from saliency_guard.training.sheets import IMAGE, asked, history, numbered, opening, sheet
from saliency_guard.training.tokenizer import train_tokenizer

PICTURE = {"type": "image", "image": Image.new("RGB", (8, 8))}


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor(train_tokenizer(200))


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_a_question_about_pictures_reads_as_the_template_writes_it(processor: Any) -> None:
    for count in (0, 1, 2, 4):
        made = sheet(opening(count, system="Be brief."), [asked("What is it?", "A dog.")])
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [*[PICTURE] * count, said("What is it?")]},
        ]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert made.prefix + made.branches[0].prompt == text
        assert made.pictures == count


def test_a_chat_that_goes_on_and_pictures_among_texts_read_so_too(processor: Any) -> None:
    made = sheet(opening(1) + history([("What is it?", "A dog.")]) + f"{IMAGE}\n", [asked("And this?", "A cat.")])
    messages = [
        {"role": "user", "content": [PICTURE, said("What is it?")]},
        {"role": "assistant", "content": [said("A dog.")]},
        {"role": "user", "content": [PICTURE, said("And this?")]},
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert made.prefix + made.branches[0].prompt == text
    assert text.count("Picture 1: <image>") == text.count("Picture 2: <image>") == 1
    one = [{"role": "user", "content": [said("Look: "), PICTURE, said("What is it?")]}]
    assert processor.apply_chat_template(one, tokenize=False) == "<s>USER: Look: <image>\nWhat is it?\n"


def test_pictures_have_numbers_only_where_there_are_several() -> None:
    assert numbered("a <image> b") == "a <image> b"
    assert numbered("<image>\n<image>\n") == "Picture 1: <image>\nPicture 2: <image>\n"


def test_a_branch_begins_at_a_word() -> None:
    with pytest.raises(ValueError, match="whitespace"):
        sheet("<s>USER: What", [asked("ever?", "No.")])


@pytest.mark.parametrize("part", MIXTURE, ids=lambda part: part.name)
def test_beginning_and_branch_are_cut_into_the_tokens_of_the_whole(processor: Any, part: Any) -> None:
    encoder = Encoder(processor.tokenizer)
    for seed in range(12):
        rng = random.Random(seed)
        shown = [sample_scene(seed * 10 + k) for k in range(part.pictures[seed % len(part.pictures)])]
        made = part.make(shown, rng)
        for branch in made.branches:
            whole = encoder.text(made.prefix + branch.prompt)
            assert encoder.text(made.prefix) + encoder.text(branch.prompt) == whole


def test_the_pictures_of_a_prompt_are_told_apart(processor: Any) -> None:
    torch.manual_seed(0)
    config = build_model(processor.tokenizer).config
    messages = [{"role": "user", "content": [PICTURE, PICTURE, PICTURE, said("Which shows a dog?")]}]
    inputs = processor.apply_chat_template(
        [messages], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    layout = prompt_layout(config, inputs).for_images(3)
    assert layout.visual_sources == {"image_0", "image_1", "image_2"}
    assert all(span.stop - span.start == 64 for span in layout.spans)
