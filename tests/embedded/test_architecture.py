"""The embedded model's shape, its processor, and what its chat template writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from saliency_guard import LVLM
from saliency_guard.embedded.architecture import (
    CHAT_TEMPLATE,
    CONTEXT_LENGTH,
    GRID,
    IMAGE_SIZE,
    IMAGE_TOKENS,
    build_model,
    build_processor,
    token_id,
)
from saliency_guard.training.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(50)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    return build_model(tokenizer)


def test_a_new_model_has_the_shape_of_the_shipped_one(lvlm: LVLM, model: LlavaForConditionalGeneration) -> None:
    shipped = {name: value.shape for name, value in lvlm.model.state_dict().items()}
    for name, value in model.state_dict().items():
        same = shipped[name] == value.shape
        assert same or {shipped[name][0], value.shape[0]} == {len(lvlm.tokenizer), model.config.text_config.vocab_size}
    assert shipped.keys() == model.state_dict().keys()
    assert lvlm.processor.chat_template == CHAT_TEMPLATE
    assert model.config.text_config.max_position_embeddings == CONTEXT_LENGTH == 2048


def test_the_seed_decides_the_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(3)
    first = build_model(tokenizer).state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(value, first[name]) for name, value in build_model(tokenizer).state_dict().items())


def test_places_are_told_apart(model: LlavaForConditionalGeneration) -> None:
    places = model.model.vision_tower.place_embedding.detach().reshape(IMAGE_TOKENS, -1)
    distances = torch.cdist(places, places) + torch.eye(IMAGE_TOKENS) * 1e9
    assert float(distances.min()) > 1.0
    # A row's cells differ only in what tells their column.
    rows = places.reshape(GRID, GRID, -1)
    half = rows.shape[-1] // 2
    assert torch.equal(rows[:, 0, :half], rows[:, 5, :half])
    assert torch.equal(rows[0, :, half:], rows[5, :, half:])


def test_pictures_of_any_shape_become_a_square_of_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    processor = build_processor(tokenizer)
    wide = Image.new("RGB", (300, 100), "white")
    wide.paste("black", (0, 0, 30, 100))
    inputs = processor(text="<s><image>", images=[wide], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert int((inputs["input_ids"] == token_id(tokenizer, "<image>")).sum()) == IMAGE_TOKENS
    assert float(inputs["pixel_values"][0, :, :, 2].max()) < -0.9  # Nothing is cut off at the side.


def test_what_the_template_writes(tokenizer: PreTrainedTokenizerFast) -> None:
    def written(*content: Any) -> str:
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": list(content)},
            {"role": "assistant", "content": "A dog."},
            {"role": "user", "content": "And now?"},
        ]
        text: str = build_processor(tokenizer).apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text

    image, text = {"type": "image"}, {"type": "text", "text": "What is it?"}
    rest = "What is it?\nASSISTANT:\nA dog.</s>\nUSER: And now?\nASSISTANT:\n"
    assert written(image, text) == f"<s>Be brief.\nUSER: <image>\n{rest}"
    assert written(image, image, text) == f"<s>Be brief.\nUSER: Picture 1: <image>\nPicture 2: <image>\n{rest}"


def test_a_token_that_is_none_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(TypeError, match="is not one token"):
        token_id(tokenizer, ["<image>", "<s>"])  # type: ignore[arg-type]
