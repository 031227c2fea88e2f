"""From decoded tokens to an answer's text."""

from __future__ import annotations

import torch

from saliency_guard import LVLM, TokenGrounding
from saliency_guard.decoding.decoder import DecodedToken
from saliency_guard.decoding.writer import Writer


def decoded(token_id: int) -> DecodedToken:
    grounding = TokenGrounding(text="", token_id=token_id, position=0, logprob=-1.0, saliency=None)
    return DecodedToken(grounding, torch.zeros(0), torch.zeros(0))


def test_an_answer_cut_inside_a_character_keeps_its_bytes(lvlm: LVLM) -> None:
    ids = lvlm.tokenizer("a 🐘", add_special_tokens=False)["input_ids"][:-1]
    writer = Writer(lvlm.tokenizer, frozenset(), ())
    for token_id in ids:
        writer.push(decoded(token_id))
    writer.finish()
    assert "".join(token.text for token in writer.done) == lvlm.tokenizer.decode(ids)
    assert [token.token_id for token in writer.done] == ids
    assert writer.reason == "length"


def test_the_end_token_is_no_part_of_the_answer(lvlm: LVLM) -> None:
    ids = lvlm.tokenizer("a dog", add_special_tokens=False)["input_ids"]
    writer = Writer(lvlm.tokenizer, frozenset({1}), ())
    ready = [token for token_id in [*ids, 1] for token in writer.push(decoded(token_id))]
    assert writer.complete
    assert "".join(token.text for token in [*ready, *writer.finish()]) == "a dog"


def test_a_stop_string_is_held_back_until_it_is_known_not_to_be_one(lvlm: LVLM) -> None:
    ids = lvlm.tokenizer("a dog and a cat", add_special_tokens=False)["input_ids"]
    writer = Writer(lvlm.tokenizer, frozenset(), (" and a cow", " cat"))
    given = ["".join(token.text for token in writer.push(decoded(token_id))) for token_id in ids]
    assert "".join(given) == "a dog"
    assert writer.complete
    assert "".join(token.text for token in writer.finish()) == " and a"
