"""The tokenizer: every text survives, and class names are short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(100)


@given(text=st.text(max_size=40))
def test_any_text_is_written_and_read_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    if any(special in text for special in tokenizer.all_special_tokens):
        return
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text.encode(errors="replace").decode()


def test_names_of_classes_are_few_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    lengths = [len(tokenizer(f" {name}")["input_ids"]) for name in CLASSES]
    assert sum(lengths) / len(lengths) < 2.5
    assert len(tokenizer) <= 768


def test_control_tokens_are_one_id_each(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_ids_to_tokens(range(4)) == ["<pad>", "<s>", "</s>", "<image>"]
    assert tokenizer("<s><image></s>")["input_ids"] == [1, 3, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
