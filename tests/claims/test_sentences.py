"""Answers about text documents, sentence by sentence."""

from __future__ import annotations

from saliency_guard.claims.extract import EnglishClaims
from saliency_guard.claims.sentences import answer_named, sentence_claims, sentence_of

TEXT = "Anna lives in Rome. She was born in 1999."


def test_every_sentence_is_a_claim() -> None:
    claims = sentence_claims(TEXT, "Where does Anna live?")
    assert [(TEXT[each.start : each.stop], each.statement, each.kind) for each in claims] == [
        ("Anna lives in Rome.", "Anna lives in Rome.", "statement"),
        ("She was born in 1999.", "She was born in 1999.", "statement"),
    ]


def test_a_few_words_are_understood_by_their_question() -> None:
    (claim,) = sentence_claims("In Rome.", "Where does Anna live?")
    assert claim.statement == 'The answer to "Where does Anna live?" is: In Rome.'
    (alone,) = sentence_claims("In Rome.")
    assert alone.statement == "In Rome."


def test_a_yes_or_no_is_about_what_was_asked() -> None:
    no, rest = sentence_claims("No, the lamp costs 30 euros in all.", "Is the lamp red?")
    assert (no.kind, no.negated, no.statement) == (
        "yes_no",
        True,
        "The answer to this question is yes: Is the lamp red?",
    )
    assert rest.statement == "the lamp costs 30 euros in all."
    (yes,) = sentence_claims("Yes.", "Is the lamp red?")
    assert (yes.kind, yes.negated) == ("yes_no", False)


def test_who_abstains_claims_nothing() -> None:
    assert sentence_claims("I can not tell.", "Where?") == []
    assert sentence_claims("", "Where?") == []


def test_a_claim_stands_in_a_sentence() -> None:
    text = "There is a dog. Anna has a cat."
    claims = {claim.noun: claim for claim in EnglishClaims()(text)}
    assert sentence_of(text, claims["dog"]) == "There is a dog."
    assert sentence_of(text, claims["cat"]) == "Anna has a cat."


def test_the_few_words_are_found_again() -> None:
    (claim,) = sentence_claims("In Rome.", 'Where is "it": here?')
    assert answer_named(claim.statement) == "In Rome."
    assert answer_named("Anna lives in Rome.") is None
    assert answer_named('Anna says "so" is: right.') is None
