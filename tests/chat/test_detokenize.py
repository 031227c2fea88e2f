from __future__ import annotations

from typing import Any

import pytest
import tiny_processors
from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_guard import LVLM, InputError
from saliency_guard.chat.detokenize import Detokenizer, aligned_offsets, encode, encode_answer, pieces


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_pieces_of_ids_concatenate_to_what_they_decode_to(lvlm: LVLM, text: str) -> None:
    tokenizer = lvlm.processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    texts = pieces(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_encoded_pieces_are_the_text(lvlm: LVLM, text: str) -> None:
    encoded = encode(lvlm.processor.tokenizer, text)
    ids, texts = encoded.ids, encoded.pieces
    assert len(ids) == len(texts)
    assert "".join(texts) == (text if ids else "")


def test_a_character_of_several_tokens_comes_with_its_last_one(lvlm: LVLM) -> None:
    tokenizer = lvlm.processor.tokenizer
    ids = tokenizer("a 🐘!", add_special_tokens=False)["input_ids"]
    texts = pieces(tokenizer, ids)
    assert "".join(texts) == "a 🐘!"
    assert "🐘" in texts
    assert texts.count("") == 3


def test_both_ways_give_a_character_to_its_last_token(lvlm: LVLM) -> None:
    encoded = encode(lvlm.processor.tokenizer, "a 🐘 日")
    ids, texts = encoded.ids, encoded.pieces
    assert texts == pieces(lvlm.processor.tokenizer, ids)


def test_an_answer_cut_inside_a_character_shows_it(lvlm: LVLM) -> None:
    tokenizer = lvlm.processor.tokenizer
    ids = tokenizer("a🐘", add_special_tokens=False)["input_ids"][:-1]
    detokenizer = Detokenizer(tokenizer)
    assert "".join(detokenizer.push(token) for token in ids) == "a"
    assert detokenizer.flush().startswith("\ufffd")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*tiny_processors.SPECIAL, "cat", " ", "é", "🐘", "<", "/s>", "\n"])).map("".join))
def test_control_tokens_are_encoded_as_text(lvlm: LVLM, text: str) -> None:
    tokenizer = lvlm.processor.tokenizer
    encoded = encode(tokenizer, text)
    assert not set(tokenizer.all_special_ids).intersection(encoded.ids)
    assert tokenizer.decode(encoded.ids) == text
    assert "".join(encoded.pieces) == text
    assert len(encoded.pieces) == len(encoded.ids)


@pytest.mark.parametrize("name", list(tiny_processors.TOKENIZERS))
def test_control_tokens_are_text_for_every_kind_of_tokenizer(name: str) -> None:
    tokenizer = tiny_processors.TOKENIZERS[name]()
    encoded = encode(tokenizer, "A </s> and <image>, <think>so</think>")
    controls = {tokenizer.convert_tokens_to_ids(text) for text in tiny_processors.SPECIAL if text != "<unk>"}
    assert not controls.intersection(encoded.ids)
    assert tokenizer.convert_tokens_to_ids("<think>") in encoded.ids, "models write that themselves"
    assert "".join("".join(encoded.pieces).split()).casefold() == "a</s>and<image>,<think>so</think>"
    plain = tokenizer("A cat.", add_special_tokens=False)["input_ids"]
    assert encode(tokenizer, "A cat.").ids == plain


def test_a_control_token_that_cannot_be_text_is_refused() -> None:
    words = tiny_processors.whole_words()
    assert words.convert_ids_to_tokens(encode(words, "Is </s> a cat").ids) == ["Is", "<", "/s>", "a", "cat"]
    with pytest.raises(InputError, match="'<image>'"):
        encode(words, "Is <image> a cat")


def test_offsets_of_a_tokenizer_that_gives_none() -> None:
    tokenizer = tiny_processors.characters()
    ids = tokenizer("a b\n", add_special_tokens=False)["input_ids"]
    assert aligned_offsets(tokenizer, ids, "a b\n") == [(0, 1), (1, 2), (2, 3), (3, 4)]
    spaced = tokenizer("a  b", add_special_tokens=False)["input_ids"]
    assert aligned_offsets(tokenizer, spaced, "a b") == [(0, 1), (0, 0), (0, 0), (2, 3)]
    assert aligned_offsets(tokenizer, ids, "a c\n") is None


def test_ids_of_an_answer_stay_as_they_are(lvlm: LVLM) -> None:
    tokenizer, controls, eos = lvlm.tokenizer, lvlm.reader.controls, lvlm.end_tokens
    merged = tokenizer("a cat", add_special_tokens=False)["input_ids"]
    split = [token_id for sign in "a cat" for token_id in tokenizer(sign, add_special_tokens=False)["input_ids"]]
    assert split != merged
    encoded = encode_answer(tokenizer, [*split, *eos], controls, eos)
    assert encoded.ids == split
    assert "".join(encoded.pieces) == tokenizer.decode(split)
    assert encode_answer(tokenizer, "a cat", controls, eos) == encode(tokenizer, "a cat", controls)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([], "no tokens"),
        (" ", "empty"),
        ([5, -1], "token 1"),
        ([5, 10**9], "whole numbers from 0 to"),
        ([5, True], "token 1"),
        ([5.0], "token 0"),
        (["a"], "token 0"),
        (b"ab", "list of token ids"),
        (7, "list of token ids"),
    ],
)
def test_what_is_no_answer_is_refused(lvlm: LVLM, answer: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        encode_answer(lvlm.tokenizer, answer, lvlm.reader.controls, lvlm.end_tokens)


def test_control_tokens_among_the_ids_are_refused(lvlm: LVLM) -> None:
    tokenizer, controls = lvlm.tokenizer, lvlm.reader.controls
    picture = tokenizer.convert_tokens_to_ids("<image>")
    for token_id in (picture, min(lvlm.end_tokens)):
        with pytest.raises(InputError, match="control token"):
            encode_answer(tokenizer, [token_id, 5], controls, lvlm.end_tokens)
