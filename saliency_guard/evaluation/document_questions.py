"""Questions about text documents with made-up facts, with right and wrong answers to them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from functools import partial

from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.claims.sentences import answer_named
from saliency_guard.evaluation.questions import Question
from saliency_guard.scenes.documents import Fact, another_value, document, facts, form_of, request, split, with_value

MOST_FACTS = 6
MOST_DOCUMENTS = 4
_TRUE = 0.5
_SHORT = 0.25
_TAKEN = 0.5


def document_questions(split_name: str, prompts: int) -> Iterator[Question]:
    """One question about one to four documents each, answered by one of their facts.

    Half of the answers from elsewhere are true, a quarter is the value alone. A wrong one has another value of the same
    form, in half of the cases that of another fact where there is one.

    Args:
        split_name: no two splits share a document.
        prompts: how many.
    """
    for number in range(prompts):
        name = f"documents {split_name} {number}"
        rng = random.Random(name)
        known = facts(rng, rng.randint(2, MOST_FACTS))
        shares = [share for share in split(rng, known, rng.randint(1, MOST_DOCUMENTS)) if share]
        texts = tuple(document(rng, share) for share in shares)
        subject, *others = known
        said = subject.value
        if rng.random() >= _TRUE:
            said = wrong_value(rng, subject, others)
        given = f"{said}." if rng.random() < _SHORT else with_value(subject, said)
        check = partial(fact_truth, known=known, subject=subject)
        yield Question(name, (), request(rng, subject.question), check, given, extractor="english", documents=texts)


def wrong_value(rng: random.Random, subject: Fact, others: Sequence[Fact]) -> str:
    """A value that a fact does not have; half of the time that of another fact of the same form, if there is one."""
    alike = [
        each.value for each in others if form_of(each.value) == form_of(subject.value) and each.value != subject.value
    ]
    return rng.choice(alike) if alike and rng.random() < _TAKEN else another_value(rng, subject.value)


def fact_truth(claim: ExtractedClaim, *, known: Sequence[Fact], subject: Fact) -> bool | None:
    """Whether a claim is one of the facts; None where it says something else.

    Args:
        claim: of an answer about documents.
        known: all that the documents say.
        subject: what a value alone would be of.
    """
    if claim.kind != "statement":
        return None
    said = answer_named(claim.statement)
    if said is not None:
        words = said.strip().rstrip(".")
        return True if words == subject.value else None if subject.value in words else False
    sentence = claim.statement.strip()
    if any(sentence == each.sentence for each in known):
        return True
    return False if any(_frame(each).fullmatch(sentence) for each in known) else None


def _frame(known: Fact) -> re.Pattern[str]:
    """The fact's sentence with any value."""
    head, _, tail = known.sentence.rpartition(known.value)
    return re.compile(f"{re.escape(head)}.+{re.escape(tail)}")
