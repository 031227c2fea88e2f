"""Statements verified: the probability that transformers' own pass over the whole prompt gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, VerifyConfig
from saliency_guard.chat.messages import chat
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.models.session import Session
from saliency_guard.verifier import Verifier

STATEMENTS = ["There is a cat in the image.", "There are two dogs.", "It is red."]


def probability(lvlm: LVLM, image: Image.Image, statement: str) -> float:
    """P(yes) of yes and no, by the model alone."""
    inputs = lvlm.processor.apply_chat_template(
        chat(image, f"Is this true: {statement} Answer yes or no."),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        likely = lvlm.model(**inputs).logits[0, -1].double().softmax(-1)
    of: dict[str, float] = {"yes": 0.0, "no": 0.0}
    for token, value in enumerate(likely.tolist()):
        word = lvlm.tokenizer.decode([token]).strip().lower()
        if word in of:
            of[word] += value
    return of["yes"] / (of["yes"] + of["no"])


def verify(lvlm: LVLM, prepared: PreparedPrompt, statements: list[tuple[str, int | None]]) -> list[Any]:
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout)
    return Verifier(lvlm.reader, VerifyConfig(min_mass=0.0)).verify(prepared.conversation, session, statements)


def test_one_picture(lvlm: LVLM, picture: Image.Image) -> None:
    results = verify(lvlm, lvlm.prepare(chat(picture, "What is it?")), [(each, None) for each in STATEMENTS])
    for statement, verified in zip(STATEMENTS, results, strict=True):
        assert verified.probability == pytest.approx(probability(lvlm, picture, statement), abs=1e-4)
        assert verified.picture == 0


def test_of_several_pictures_the_one_that_is_named_or_speaks_most_for_it(lvlm: LVLM, picture: Image.Image) -> None:
    other = Image.new("RGB", (96, 96), "green")
    parts = [{"type": "image", "image": image} for image in (picture, other)]
    prepared = lvlm.prepare([{"role": "user", "content": [*parts, {"type": "text", "text": "What is there?"}]}])
    here, there = (probability(lvlm, image, STATEMENTS[0]) for image in (picture, other))
    named = verify(lvlm, prepared, [(STATEMENTS[0], 0), (STATEMENTS[0], 1)])
    assert [each.probability for each in named] == [pytest.approx(here, abs=1e-4), pytest.approx(there, abs=1e-4)]
    (best,) = verify(lvlm, prepared, [(STATEMENTS[0], None)])
    assert best.probability == pytest.approx(max(here, there), abs=1e-4)
    assert best.picture == (0 if here > there else 1)


def test_without_evidence_nothing_is_verified(lvlm: LVLM) -> None:
    bare = LVLM(lvlm.model, lvlm.processor, require_image=False)
    prepared = bare.prepare([{"role": "user", "content": "Who are you?"}])
    (result,) = verify(bare, prepared, [(STATEMENTS[0], None)])
    assert result.probability is None


def test_a_statement_that_does_not_fit_the_context_is_not_verified(lvlm: LVLM, picture: Image.Image) -> None:
    prepared = lvlm.prepare(chat(picture, "What?"))
    long = "There is a cat " + "and a dog " * 2000
    first, second = verify(lvlm, prepared, [(long, None), (STATEMENTS[0], None)])
    assert first.probability is None
    assert second.probability is not None


def test_the_picture_is_prepared_once_for_all_statements(
    lvlm: LVLM, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    process = lvlm.processor._process_images

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return process(*arguments, **named)

    prepared = lvlm.prepare(chat(picture, "What is it?"))
    monkeypatch.setattr(lvlm.processor, "_process_images", counted)
    found = verify(lvlm, prepared, [(each, None) for each in STATEMENTS])
    assert len(calls) == 1
    assert [each.probability for each in found] == [
        pytest.approx(probability(lvlm, picture, each), abs=1e-4) for each in STATEMENTS
    ]
