"""The question about a statement, the tokens that answer it, and the probability that they give."""

from __future__ import annotations

import math

import pytest
import tiny_processors
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from saliency_guard import LVLM, ConfigError, VerifyConfig
from saliency_guard.chat.images import load_image
from saliency_guard.chat.messages import parse_messages
from saliency_guard.signals.verification import Verbalizer, verification_messages

RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")


def said(messages: list[dict]) -> list[list[str]]:
    return [
        [
            part["text"] if part["type"] == "text" else str(load_image(part["image"]).getpixel((0, 0)))
            for part in message["content"]
        ]
        for message in messages
    ]


def conversation(*messages: dict) -> object:
    return parse_messages(list(messages), require_image=False)


def image(picture: Image.Image) -> dict:
    return {"type": "image", "image": picture}


def text(value: str, source: str | None = None) -> dict:
    return {"type": "text", "text": value} | ({"source": source} if source else {})


def test_the_question_takes_the_place_of_what_was_asked() -> None:
    system = {"role": "system", "content": "Be brief."}
    first = {"role": "user", "content": [image(RED), text("What is it?")]}
    later = [{"role": "assistant", "content": "A dog."}, {"role": "user", "content": "And where?"}]
    found = verification_messages(conversation(system, first, *later), "Is it?")
    assert said(found) == [["Be brief."], ["(255, 0, 0)", "Is it?"]]
    assert [message["role"] for message in found] == ["system", "user"]


def test_one_picture_of_several_is_shown_alone() -> None:
    both = conversation({"role": "user", "content": [image(RED), image(BLUE), text("Which?")]})
    assert said(verification_messages(both, "Is it?", 1)) == [["(0, 0, 255)", "Is it?"]]
    assert said(verification_messages(both, "Is it?")) == [["(255, 0, 0)", "(0, 0, 255)", "Is it?"]]


def test_pictures_are_not_loaded_again() -> None:
    both = conversation({"role": "user", "content": [image(RED), image(BLUE), text("Which?")]})
    for picture in (None, 1):
        again = conversation(*verification_messages(both, "Is it?", picture))
        assert len(again.images) == (2 if picture is None else 1)
        assert all(any(shown is known for known in both.images) for shown in again.images)


def test_documents_stay() -> None:
    asked = conversation({"role": "user", "content": [text("Born in 1999.", "document_1"), text("When?")]})
    assert said(verification_messages(asked, "Is it?")) == [["Born in 1999.", "Is it?"]]
    bare = conversation({"role": "user", "content": [text("When?")]})
    assert said(verification_messages(bare, "Is it?")) == [["Is it?"]]


def test_only_yes_and_no_count() -> None:
    verbalizer = Verbalizer(yes=(0, 1), no=(2,), min_mass=0.02)
    logits = torch.tensor([0.3, 0.2, 0.25, 0.25]).log()
    assert verbalizer.probability(logits) == pytest.approx(0.5 / 0.75)
    assert verbalizer.probability(torch.tensor([0.005, 0.004, 0.01, 0.981]).log()) is None
    assert verbalizer.probability(torch.tensor([math.nan] * 4)) is None


def test_every_spelling_of_the_words_is_found(lvlm: LVLM) -> None:
    verbalizer = Verbalizer.of(lvlm.tokenizer, VerifyConfig())
    words = {lvlm.tokenizer.decode([token]).strip().lower() for token in verbalizer.yes}
    assert words == {"yes"}
    assert {lvlm.tokenizer.decode([token]).strip().lower() for token in verbalizer.no} == {"no"}
    with pytest.raises(ConfigError, match="no token of the vocabulary"):
        Verbalizer.of(lvlm.tokenizer, VerifyConfig(yes=("да",)))


def test_a_question_needs_a_place_for_the_claim() -> None:
    assert VerifyConfig(question="Right? {statement}").put("A {cat}.") == "Right? A {cat}."
    with pytest.raises(ConfigError, match="no place for the claim"):
        VerifyConfig(question="Right?").put("A cat.")


def byte_tokenizer(*lines: str) -> PreTrainedTokenizerFast:
    """Pieces of bytes, learnt from a few lines: letters beyond ASCII are written in a way of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(lines * 5, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("kind", list(tiny_processors.TOKENIZERS))
def test_every_kind_of_vocabulary_has_a_yes_and_a_no(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["Yes yes No no", "yes", "no", "Yes, it is. No, it is not."] * 20
    monkeypatch.setattr(tiny_processors, "CORPUS", [*tiny_processors.CORPUS, *words])
    tokenizer = tiny_processors.TOKENIZERS[kind]()
    if kind == "characters":
        with pytest.raises(ConfigError, match="no token of the vocabulary spells"):
            Verbalizer.of(tokenizer, VerifyConfig())
        return
    verbalizer = Verbalizer.of(tokenizer, VerifyConfig())
    for ids, word in ((verbalizer.yes, "yes"), (verbalizer.no, "no")):
        assert {tokenizer.decode([token]).strip().casefold() for token in ids} == {word}


def test_capitals_and_spaces_all_count() -> None:
    tokenizer = byte_tokenizer("Yes yes YES No no NO", "yes. no", " Yes no YES")
    verbalizer = Verbalizer.of(tokenizer, VerifyConfig())
    assert {tokenizer.decode([token]) for token in verbalizer.yes} >= {"Yes", " yes", " YES"}
    assert {tokenizer.decode([token]) for token in verbalizer.no} >= {" No", " no", " NO"}


@pytest.mark.parametrize("code", ["de", "es", "fr", "it", "ja", "pt", "zh"])
def test_words_of_other_languages_are_found_in_pieces_of_bytes(code: str) -> None:
    config = VerifyConfig.in_language(code)
    assert "A dog." in config.put("A dog.")
    words = [*config.yes, *config.no]
    tokenizer = byte_tokenizer(*words, *(f"x {word}" for word in words), *map(str.capitalize, words))
    verbalizer = Verbalizer.of(tokenizer, config)
    assert {tokenizer.decode([token]).strip().casefold() for token in verbalizer.yes} == set(config.yes)
    assert {tokenizer.decode([token]).strip().casefold() for token in verbalizer.no} == set(config.no)


def test_of_a_word_in_pieces_the_first_speaks_for_it_unless_it_begins_both() -> None:
    tokenizer = byte_tokenizer("af fi rm at iv e", "ne ga ti ve")
    verbalizer = Verbalizer.of(tokenizer, VerifyConfig(yes=("affirmative",), no=("negative",)))
    assert {tokenizer.decode([token]) for token in verbalizer.yes} == {"af"}
    assert {tokenizer.decode([token]) for token in verbalizer.no} == {"ne"}
    with pytest.raises(ConfigError, match="no token of the vocabulary spells"):
        Verbalizer.of(tokenizer, VerifyConfig(yes=("nearly",), no=("negative",)))
    with pytest.raises(ConfigError, match="no token of the vocabulary spells"):
        Verbalizer.of(byte_tokenizer("yes no"), VerifyConfig(yes=("да",), no=("нет",)))


def test_there_is_no_question_in_every_language() -> None:
    assert VerifyConfig.in_language("en") == VerifyConfig()
    with pytest.raises(ConfigError, match="no question in the language 'xx'"):
        VerifyConfig.in_language("xx")
