"""Answers taken apart, verified and judged: by the calibrator's means, or by those that are asked for."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic
import torch
from PIL import Image

from saliency_guard import LVLM, ConfigError, Records, SaliencyConfig, VerifyConfig, answer_builder
from saliency_guard.answer import Claim, TokenGrounding
from saliency_guard.calibration.calibrator import NO_DOCUMENTS
from saliency_guard.chat.messages import chat, chat_about
from saliency_guard.claim_judge import BOTH, OTHER_VERIFICATION, Basis, ClaimJudge, JudgedClaims, holds
from saliency_guard.claims.extract import EnglishClaims
from saliency_guard.models.session import Session
from saliency_guard.scenes import render, sample_scene
from saliency_guard.scenes.claims import world_claims
from saliency_guard.scenes.vocabulary import with_article
from saliency_guard.verifier import Verified, Verifier

TEXT = "There is a dog and no cat. The dog is on the left."


def claim(grounding: float | None) -> Claim:
    return Claim(text="dog", kind="object", span=(0, 3), statement="There is a dog.", grounding=grounding)


def test_a_token_has_the_least_grounding_of_the_claims_that_it_decides() -> None:
    tokens = [TokenGrounding(text="x", token_id=1, position=at, logprob=-1.0, saliency=None) for at in range(4)]
    judged = JudgedClaims((claim(0.9), claim(0.4), claim(None)), ((0, 1), (1,), (2,)))
    assert [token.grounding for token in judged.with_groundings(tokens)] == [0.9, 0.4, None, None]


def test_a_negated_claim_holds_where_its_statement_does_not() -> None:
    no_cat = next(each for each in EnglishClaims()(TEXT) if each.noun == "cat")
    assert no_cat.negated
    assert holds(no_cat, Verified(0.8)) == pytest.approx(0.2)
    assert holds(no_cat, Verified(None)) is None


@pytest.fixture(scope="module")
def prompt(lvlm: LVLM, picture: Image.Image) -> tuple[Any, Session]:
    prepared = lvlm.prepare(chat(picture, "Describe the image."))
    return prepared.conversation, Session(lvlm.model, prepared.inputs, layout=prepared.layout)


def test_without_a_calibrator_claims_are_named_and_nothing_is_said_of_them(lvlm: LVLM, prompt: Any) -> None:
    conversation, session = prompt
    judged = ClaimJudge(lvlm.reader, None).judge([TEXT], session, conversation, Basis(reason="why"))
    assert [(each.kind, each.negated) for each in judged.claims] == [
        ("object", False),
        ("object", True),
        ("place", False),
    ]
    assert {each.source for each in judged.claims} == {"image_0"}  # The only picture.
    assert {each.verified for each in judged.claims} == {each.grounding for each in judged.claims} == {None}
    assert (judged.grounding, judged.reason) == (None, "why")


def test_claims_are_verified_where_that_is_asked_for(lvlm: LVLM, prompt: Any) -> None:
    conversation, session = prompt
    config = VerifyConfig(min_mass=0.0)
    judge = ClaimJudge(lvlm.reader, None, verify=config)
    judged = judge.judge([TEXT], session, conversation, Basis())
    extracted = judge.extract(TEXT, conversation)
    expected = Verifier(lvlm.reader, config).verify(
        conversation, session, [(each.statement, None) for each in extracted]
    )
    for ours, each, verified in zip(judged.claims, extracted, expected, strict=True):
        assert ours.verified == pytest.approx(holds(each, verified), abs=1e-5)
    assert judge.verified(extracted, session, conversation) == pytest.approx([each.verified for each in judged.claims])
    assert judge.verified(extracted, session, None) == [None] * len(extracted)  # Its messages are not known.


def test_the_extractor_is_the_one_that_is_asked_for_else_the_calibrators(lvlm: LVLM) -> None:
    text = "There are two pairs of skis."
    assert lvlm.calibrator is not None
    assert lvlm.calibrator.extractor == "picture_world"
    calibrated = ClaimJudge(lvlm.reader, lvlm.calibrator).extract(text, None)
    english = ClaimJudge(lvlm.reader, lvlm.calibrator, extractor="english").extract(text, None)
    assert calibrated == list(world_claims(text))
    assert english == ClaimJudge(lvlm.reader, None).extract(text, None) == list(EnglishClaims()(text))
    assert calibrated != english


def document(text: str, name: str = "document_1") -> dict[str, Any]:
    return {"type": "text", "text": text, "source": name}


def asked_about(*parts: dict[str, Any], question: str = "Where does Anna live?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


ROME = document("Anna lives in Rome. The lamp costs 30 euros.")
TREE = document("Bob wrote a book. It has 12 pages.", "document_2")


def test_claims_about_text_documents_are_verified_on_them_and_get_no_pictures_number(lvlm: LVLM) -> None:
    reading = LVLM(lvlm.model, lvlm.processor, require_image=False).with_calibrator(lvlm.calibrator)
    messages = asked_about(ROME, TREE)
    answer = reading.score(messages, "Anna lives in Rome.", verify=VerifyConfig(min_mass=0.0))
    (claim,) = answer.claims
    assert (claim.kind, claim.statement, claim.grounding) == ("statement", "Anna lives in Rome.", None)
    assert answer.grounding is None
    assert "does not tell true from wrong there (AUROC 0.5" in str(answer.grounding_reason)  # Measured.
    assert lvlm.calibrator is not None
    unmeasured = reading.with_calibrator(lvlm.calibrator.model_copy(update={"documents": None}))
    assert unmeasured.score(messages, "Anna lives in Rome.").grounding_reason == NO_DOCUMENTS
    # Each document is asked by itself; the one that speaks most for it is its source.
    alone = {}
    for part in (ROME, TREE):
        question = "Is this true: Anna lives in Rome. Answer yes or no."
        inputs = reading.inputs(asked_about(part, question=question))
        with torch.no_grad():
            likely = lvlm.model(**inputs).logits[0, -1].double().softmax(-1)
        of = {"yes": 0.0, "no": 0.0}
        for token, value in enumerate(likely.tolist()):
            word = lvlm.tokenizer.decode([token]).strip().lower()
            if word in of:
                of[word] += value
        alone[part["source"]] = of["yes"] / (of["yes"] + of["no"])
    assert claim.verified == pytest.approx(max(alone.values()), abs=1e-4)
    assert claim.source == max(alone, key=lambda name: alone[name])


@pytest.fixture(scope="module")
def with_documents(lvlm: LVLM) -> LVLM:
    """The model, with a calibration for documents that is made up: its verification tells right from wrong."""
    assert lvlm.calibrator is not None
    made = synthetic.document_records(200, documents=2)
    records = Records(lvlm.calibrator.fingerprint, made, verify=VerifyConfig(min_mass=0.0))
    reading = LVLM(lvlm.model, lvlm.processor, require_image=False)
    return reading.with_calibrator(lvlm.calibrator.with_documents(records))


def test_claims_about_text_documents_have_the_number_of_what_the_model_says_of_them(with_documents: LVLM) -> None:
    messages = asked_about(ROME, TREE)
    answer = with_documents.score(messages, "Anna lives in Rome. It has 12 pages.")
    calibrator = with_documents.calibrator
    assert calibrator is not None and calibrator.documents is not None  # noqa: PT018
    expected = calibrator.documents.judge(
        ["statement"] * 2, [claim.verified for claim in answer.claims], lengths=(len(ROME["text"]), len(TREE["text"]))
    )
    assert answer.grounding is not None
    assert (answer.grounding, answer.grounding_reason, answer.calibrated) == (expected.answer, None, True)
    assert tuple(claim.grounding for claim in answer.claims) == expected.claims
    assert {claim.source for claim in answer.claims} <= {"document_1", "document_2"}
    # Repairs were tested on answers about pictures: they guarantee nothing here.
    assert answer.repairs == ()
    with pytest.raises(ConfigError, match="has no repair"):
        answer.repaired(risk=0.3)


def test_what_the_documents_calibration_does_not_cover_has_no_number(with_documents: LVLM) -> None:
    alone = with_documents.score(asked_about(ROME), "Anna lives in Rome.")
    assert alone.grounding is None
    assert "has 1 text documents" in str(alone.grounding_reason)
    other = with_documents.score(asked_about(ROME, TREE), "Anna lives in Rome.", verify=VerifyConfig())
    assert (other.grounding, other.grounding_reason) == (None, OTHER_VERIFICATION)
    unscored = with_documents.score(
        asked_about(ROME, TREE), "Anna lives in Rome.", saliency=SaliencyConfig(layers=(0.0, 1.0))
    )
    assert unscored.grounding is None


def test_beside_a_picture_there_is_no_number_and_no_trace_is_made_for_it(
    with_documents: LVLM, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[int] = []
    trace_answers = answer_builder.trace_answers

    def counted(sessions: Any, *arguments: Any, **named: Any) -> Any:
        traced.append(len(sessions))
        return trace_answers(sessions, *arguments, **named)

    monkeypatch.setattr(answer_builder, "trace_answers", counted)
    image = {"type": "image", "image": picture}
    messages = asked_about(image, ROME, TREE, question="Describe the image.")
    answer = with_documents.score(messages, "There is a dog. Anna lives in Rome.")
    assert traced == []
    assert len(answer.claims) > 1
    assert {claim.source for claim in answer.claims} <= {"image_0", "document_1", "document_2"}
    assert all(claim.verified is not None for claim in answer.claims)
    assert {claim.grounding for claim in answer.claims} == {None}
    assert (answer.grounding, answer.grounding_reason) == (None, BOTH)
    alone = with_documents.score(asked_about(image, question="Describe the image."), "There is a dog.")
    assert traced == [1]
    assert alone.grounding is not None or "fitted on" in str(alone.grounding_reason)


def test_a_picture_in_style_is_not_called_unlike_for_what_is_said_of_it(lvlm: LVLM) -> None:
    """The model is unsure of what is no claim about a picture, and the picture is not to blame."""
    assert lvlm.calibrator is not None
    strict = lvlm.with_calibrator(lvlm.calibrator.model_copy(update={"level": 0.4}))
    answer = strict.score(chat("examples/desk.png", "What is there?"), "Hello!")
    assert answer.grounding is None
    assert answer.grounding_reason is not None
    assert answer.grounding_reason.startswith("the model is less sure of claims about the picture")
    grey = lvlm.score(chat(Image.new("RGB", (224, 224), "grey"), "What is there?"), "There is a dog.")
    assert str(grey.grounding_reason).startswith("the picture is unlike those")


def test_a_yes_about_one_of_several_pictures_is_judged_on_that_one(lvlm: LVLM) -> None:
    scenes = [sample_scene(seed) for seed in (800_020, 800_021, 800_030, 800_031)]
    shown = [(here, there) for here in scenes for there in scenes if set(there.counts) - set(here.counts)]
    yes_is_wrong = 0
    for here, there in shown:
        name = min(set(there.counts) - set(here.counts))
        images = [render(here, 224).image, render(there, 224).image]
        thing = with_article(name)
        said = f"Yes, picture 2 shows {thing}."
        wrong = lvlm.score(chat_about(images, f"Does picture 1 show {thing}?"), said)
        right = lvlm.score(chat_about(images, f"Does picture 2 show {thing}?"), said)
        assert (wrong.claims[0].kind, wrong.claims[0].source) == ("yes_no", "image_0")
        if wrong.grounding is not None and right.grounding is not None:
            assert wrong.grounding < 0.5 < right.grounding
            yes_is_wrong += 1
        both = lvlm.score(chat_about(images, f"Do both pictures show {thing}?"), said)
        assert both.grounding is None
        assert both.claims[0].kind == "statement"
    assert yes_is_wrong >= 4
