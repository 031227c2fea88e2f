"""Claims of an answer about text documents: whole sentences, since a document may say anything of anything."""

from __future__ import annotations

from saliency_guard.claims import phrases
from saliency_guard.claims.extract import ExtractedClaim


def sentence_claims(text: str, question: str = "") -> list[ExtractedClaim]:
    """Every sentence of an answer as a claim of its own; see `ClaimExtractor`.

    A sentence that abstains claims nothing. A yes, a no or a few words ("In Rome.") claim nothing without the question:
    the statement names it.
    """
    claims: list[ExtractedClaim] = []
    question_line = phrases.last_line(question)
    for sentence in phrases.sentences(text):
        if phrases.abstains(sentence.text) or not sentence.words:
            continue
        start, stop = sentence.span
        said = sentence.yes_or_no
        if said is not None and question_line:
            statement = phrases.yes_statement(question_line)
            claims.append(ExtractedClaim("yes_no", said[1], said[2], statement, negated=said[0] == "no"))
            start = said[2]
            rest = text[start:stop].lstrip(" ,.;:")
            start = stop - len(rest)
            if not rest:
                continue
        words = text[start:stop].strip()
        short = len(words.split()) <= _FEW and bool(question_line)
        statement = _NAMED.format(question_line, words) if short else words
        claims.append(ExtractedClaim("statement", start, stop, statement))
    return claims


_FEW = 3
_NAMED = 'The answer to "{}" is: {}'


def answer_named(statement: str) -> str | None:
    """The few words that a statement names as the answer to a question; None where it is no such statement."""
    head, said, words = statement.rpartition(_NAMED.format("", "").removeprefix('The answer to "'))
    return words if said and head.startswith('The answer to "') else None


def sentence_of(text: str, claim: ExtractedClaim) -> str:
    """The sentence of an answer that a claim stands in."""
    for sentence in phrases.sentences(text):
        if sentence.start <= claim.start < sentence.start + len(sentence.text):
            return sentence.text.strip()
    return claim.statement
