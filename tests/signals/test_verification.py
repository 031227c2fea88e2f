"""The question about a statement, the tokens that answer it, and the probability that they give."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, ConfigError, VerifyConfig
from saliency_guard.chat.messages import parse_messages
from saliency_guard.signals.verification import Verbalizer, verification_messages

RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")


def said(messages: list[dict]) -> list[list[str]]:
    return [
        [part["text"] if part["type"] == "text" else str(part["image"].getpixel((0, 0))) for part in message["content"]]
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
        Verbalizer.of(lvlm.tokenizer, VerifyConfig(yes=("aye aye",)))


def test_a_question_needs_a_place_for_the_claim() -> None:
    assert VerifyConfig(question="Right? {statement}").put("A {cat}.") == "Right? A {cat}."
    with pytest.raises(ConfigError, match="no place for the claim"):
        VerifyConfig(question="Right?").put("A cat.")
