"""Questions about text documents: every answer from elsewhere is labelled, and rightly."""

from __future__ import annotations

import random
from functools import partial

from saliency_guard.claims.sentences import sentence_claims
from saliency_guard.evaluation.document_questions import document_questions, fact_truth, wrong_value
from saliency_guard.scenes.documents import Fact


def test_an_answer_from_elsewhere_is_true_exactly_if_a_document_says_it() -> None:
    truths: list[bool] = []
    short = 0
    for question in document_questions("development", 300):
        assert not question.images
        assert question.given is not None
        (claim,) = sentence_claims(question.given, question.question)
        truth = question.check(claim)
        assert truth is not None, question.given
        short += claim.statement != question.given
        if claim.statement == question.given:  # A value alone may be that of another fact.
            assert truth is any(question.given in text for text in question.documents)
        truths.append(truth)
    assert 120 < sum(truths) < 180
    assert 40 < short < 110
    assert {len(question.documents) for question in document_questions("development", 60)} == {1, 2, 3, 4}


def test_splits_share_no_document() -> None:
    of = {name: {each.documents for each in document_questions(name, 50)} for name in ("development", "calibration")}
    assert not of["development"] & of["calibration"]
    again = {each.documents for each in document_questions("development", 50)}
    assert again == of["development"]


def test_what_an_answer_says() -> None:
    known = [
        Fact("The price is 30 euros.", "What is the price?", "price", "30 euros"),
        Fact("Anna lives in Rome.", "Where does Anna live?", "live_place", "Rome"),
    ]
    check = partial(fact_truth, known=known, subject=known[1])
    said = {
        "Anna lives in Rome.": True,
        "The price is 30 euros.": True,
        "Anna lives in Oslo.": False,
        "The price is 31 euros.": False,
        "Rome.": True,
        "Oslo.": False,
        "In Rome.": None,
        "Anna is a nice person to live with.": None,
        "Yes.": None,
    }
    for text, truth in said.items():
        (claim,) = sentence_claims(text, known[1].question)
        assert check(claim) is truth, text


def test_a_wrong_value_is_another_one_of_the_same_form() -> None:
    asked = Fact("The price is 30.", "What is the price?", "price", "30")
    other = Fact("The gate is 12.", "What is the gate?", "gate", "12")
    values = [wrong_value(random.Random(seed), asked, [other]) for seed in range(200)]
    assert "30" not in values
    assert 60 < values.count("12") < 140
    assert all(value.isdigit() for value in values)
