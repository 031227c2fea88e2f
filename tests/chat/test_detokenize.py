from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_guard import LVLM
from saliency_guard.chat.detokenize import Detokenizer, encode, pieces


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_pieces_of_ids_concatenate_to_what_they_decode_to(lvlm: LVLM, text: str) -> None:
    tokenizer = lvlm.processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = pieces(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_encoded_pieces_are_the_text(lvlm: LVLM, text: str) -> None:
    encoded = encode(lvlm.processor.tokenizer, text)
    ids, found = encoded.ids, encoded.pieces
    assert len(ids) == len(found)
    assert "".join(found) == (text if ids else "")


def test_a_character_of_several_tokens_comes_with_its_last_one(lvlm: LVLM) -> None:
    tokenizer = lvlm.processor.tokenizer
    ids = tokenizer("a 🐘!", add_special_tokens=False)["input_ids"]
    found = pieces(tokenizer, ids)
    assert "".join(found) == "a 🐘!"
    assert "🐘" in found
    assert found.count("") == 3


def test_both_ways_give_a_character_to_its_last_token(lvlm: LVLM) -> None:
    encoded = encode(lvlm.processor.tokenizer, "a 🐘 日")
    ids, found = encoded.ids, encoded.pieces
    assert found == pieces(lvlm.processor.tokenizer, ids)


def test_an_answer_cut_inside_a_character_shows_it(lvlm: LVLM) -> None:
    tokenizer = lvlm.processor.tokenizer
    ids = tokenizer("a🐘", add_special_tokens=False)["input_ids"][:-1]
    detokenizer = Detokenizer(tokenizer)
    assert "".join(detokenizer.push(token) for token in ids) == "a"
    assert detokenizer.flush().startswith("\ufffd")
