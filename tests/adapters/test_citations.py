"""What rests on which document: pictures and texts side by side, claim by claim, with the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saliency_guard import LVLM, ContextLengthError, GuardPolicy, TokenFilter
from saliency_guard.adapters.citations import Documents, JudgedAnswer, unique_names
from saliency_guard.adapters.scorer import LocalScorer
from saliency_guard.adapters.settings import ServedLVLM

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"
QUESTION = "Describe the image in detail."
POLICY = GuardPolicy(min_grounding=0.5)


def picture(name: str) -> dict[str, Any]:
    return {"type": "image", "image": PICTURES / f"{name}.png"}


def text(number: int, words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "source": Documents.text_source(number)}


@pytest.fixture(scope="module")
def engine() -> LVLM:
    return ServedLVLM().engine()


@pytest.fixture(scope="module")
def mixed() -> Documents:
    return Documents([[picture("dog")], [text(1, "A note. "), picture("bird"), text(1, "Of today.")]], QUESTION)


@pytest.fixture(scope="module")
def pictures() -> Documents:
    return Documents([[picture("dog")], [picture("bird")]], QUESTION)


def judged(engine: LVLM, documents: Documents, answer: str, policy: GuardPolicy | None = POLICY) -> JudgedAnswer:
    *_, last = documents.judging(LocalScorer(engine), answer, policy)
    assert last is not None
    return last


def test_messages(mixed: Documents) -> None:
    (message,) = mixed.messages
    assert [part["type"] for part in message["content"]] == ["image", "text", "image", "text", "text"]
    assert mixed.has_picture
    assert mixed.has_text
    texts = Documents([[text(0, "A cat.")]], QUESTION)
    assert (texts.has_picture, texts.has_text) == (False, True)


def test_shares_add_up(engine: LVLM, mixed: Documents) -> None:
    scored = engine.score(mixed.messages, "The image shows a bird.")
    shares = mixed.shares(scored)
    counted = TokenFilter().counted([token.text for token in scored.tokens])
    of_documents = [
        sum(scored.tokens[index].shares[name] for name in names) / len(counted)
        for names in (("image_0",), ("image_1", "document_2"))
        for index in counted
    ]
    assert len(counted) == 1
    assert shares == pytest.approx(of_documents)
    assert 0.0 < sum(shares) < 1.0


@pytest.mark.parametrize(
    ("answer", "is_accepted", "documents"),
    [
        ("The image shows a dog.", True, (0,)),
        ("The image shows a bird.", True, (1,)),
        ("The image shows a zebra.", False, (None,)),
        ("There is no bird in the image.", False, (None,)),
        ("There is no zebra in the image.", True, (None,)),
        ("The images show a bird, a dog and a zebra.", False, (1, 0, None)),
    ],
)
def test_every_claim_is_judged_against_every_picture(
    engine: LVLM, pictures: Documents, answer: str, is_accepted: bool, documents: tuple[int | None, ...]
) -> None:
    result = judged(engine, pictures, answer)
    assert (result.attempt(POLICY).accepted, result.documents) == (is_accepted, documents)
    assert result.answer.calibrated
    assert "zebra" not in (result.attempt(POLICY).refused or "")


def test_the_least_likely_claim_refuses_an_answer(engine: LVLM, pictures: Documents) -> None:
    result = judged(engine, pictures, "The image shows a dog.")
    (claim,) = result.answer.claims
    wrong = claim.model_copy(update={"grounding": 0.1, "span": (0, 9)})
    answer = result.answer.model_copy(update={"claims": (claim, wrong), "grounding": 0.9})
    refused = JudgedAnswer(answer, (0, None), ()).attempt(POLICY).refused
    assert refused == "the claim at characters 0 to 9 has grounding 0.100, below 0.500"


def test_beside_texts_a_picture_may_speak_for_a_claim_and_never_against_it(engine: LVLM, mixed: Documents) -> None:
    good = judged(engine, mixed, "The image shows a bird.")
    assert (good.attempt(POLICY).accepted, good.documents, good.answer.calibrated) == (True, (1,), True)
    for answer in ("The image shows a zebra.", "There is a bird and a zebra."):
        unknown = judged(engine, mixed, answer)
        attempt = unknown.attempt(POLICY)
        assert (attempt.accepted, attempt.refused) == (False, None)
        assert "no calibration covers claims about texts" in (attempt.reason or "")
        assert unknown.answer.claims[-1].grounding is None
        assert not unknown.answer.calibrated


@pytest.mark.parametrize("answer", ["Berlin.", "Paris.", "The capital of France is Berlin."])
def test_claims_about_texts_never_get_a_picture_s_number(engine: LVLM, answer: str) -> None:
    for parts in ([], [picture("dog")]):
        documents = Documents([parts, [text(1, "The capital of France is Paris.")]], "What is the capital?")
        result = judged(engine, documents, answer)
        assert result.answer.grounding is None
        assert {claim.grounding for claim in result.answer.claims} == {None}
        assert result.attempt(POLICY).reason


def test_a_yes_may_be_about_a_text(engine: LVLM) -> None:
    documents = Documents([[picture("dog")], [text(1, "A dog is not a cat.")]], "Is there a dog in the image?")
    assert judged(engine, documents, "Yes.").answer.grounding is None
    alone = Documents([[picture("dog")]], "Is there a dog in the image?")
    assert judged(engine, alone, "Yes.").attempt(POLICY).accepted


def test_without_a_calibration_claims_rest_on_what_the_model_says_and_have_no_grounding(
    engine: LVLM, pictures: Documents
) -> None:
    result = judged(engine.with_calibrator(None), pictures, "The image shows a bird.", None)
    assert result.documents == (1,)
    assert result.answer.grounding is None
    assert result.attempt(POLICY).reason


def test_documents_that_do_not_fit_are_an_error(engine: LVLM) -> None:
    long = Documents([[picture("dog")], [text(1, "word " * 20_000)]], QUESTION)
    with pytest.raises(ContextLengthError):
        judged(engine, long, "The image shows a dog.")


def test_names_that_repeat_get_numbers() -> None:
    assert unique_names(["a", "b", "a", "a#2", "a"]) == ["a", "b", "a#2", "a#2#2", "a#3"]
    assert unique_names([]) == []


def test_what_is_cited_is_what_is_given_out(engine: LVLM, pictures: Documents) -> None:
    *_, judged = pictures.judging(LocalScorer(engine), "The image shows a bird. There is a zebra.", POLICY)
    assert judged is not None
    bird = next(claim for claim in judged.answer.claims if claim.noun == "bird")
    attempt = judged.attempt(POLICY)
    assert judged.cited(POLICY.decide((attempt,))) == [(bird, 1)]
    repaired = POLICY.model_copy(update={"on_low": "repair"}).decide((attempt,))
    assert repaired.decision == "repaired"
    assert judged.cited(repaired) == [(bird, 1)]
    nothing_left = POLICY.model_copy(update={"on_low": "repair", "min_grounding": 1.0}).decide((attempt,))
    assert judged.cited(nothing_left) == []
    fallback = POLICY.model_copy(update={"on_low": "fallback", "fallback": lambda *_: "A bird."}).decide((attempt,))
    assert judged.cited(fallback) == []
