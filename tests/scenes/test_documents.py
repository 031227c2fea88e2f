from __future__ import annotations

import random

from saliency_guard.scenes import documents


def test_a_fact_stands_in_its_document_and_answers_its_question() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        known = documents.facts(rng, 4)
        text = documents.document(rng, known)
        assert len({each.question for each in known}) == len({each.topic for each in known}) == 4
        for each in known:
            assert each.sentence in text
            assert each.value in each.sentence
            assert each.value not in each.question
            assert each.answer == each.sentence


def test_documents_share_the_facts_and_none_is_lost() -> None:
    rng = random.Random(3)
    known = documents.facts(rng, 5)
    shares = documents.split(rng, known, 3)
    assert sorted(each.sentence for share in shares for each in share) == sorted(each.sentence for each in known)
    assert all(shares)


def test_another_value_has_the_same_form_and_makes_the_sentence_wrong() -> None:
    seen: set[str] = set()
    for seed in range(400):
        rng = random.Random(seed)
        known = documents.fact(rng)
        other = documents.another_value(rng, known.value)
        assert other != known.value
        assert documents.form_of(other) == documents.form_of(known.value)
        wrong = documents.with_value(known, other)
        assert wrong != known.sentence
        assert other in wrong
        assert len(wrong) - len(other) == len(known.sentence) - len(known.value)  # Nothing else is another one.
        seen.add(documents.form_of(known.value))
    assert seen == {"year", "number", "place", "name", "word"}


def test_the_form_of_a_value() -> None:
    values = ("12 March 1999", "A-7239", "8:25", "1984", "Oslo", "kitchen", "Anna", "Anna Taqua", "red", "Monday")
    assert [documents.form_of(each) for each in values] == [
        "year", "number", "number", "number", "place", "place", "name", "name", "word", "word",
    ]  # fmt: skip
