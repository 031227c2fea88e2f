"""What an answer claims, claim by claim: the pieces that can be right or wrong on their own.

`EnglishClaims` takes any model's English apart with plain rules, no parser. It knows objects (noun phrases), numbers,
places, a yes or no, and whole sentences for all that says more. It misses objects named without an article or a number
("cats and dogs"), takes the verb of a sentence for a noun where it does not know it ("a man juggles"), and gives up on
pronouns: what a pronoun is said to do is a claim of the whole sentence. A yes or no to a question with "no", "or",
"more than" and such, or about all of several pictures, is one, too: it is not simply that something is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from saliency_guard.claims import phrases
from saliency_guard.claims.phrases import NounPhrase, Place, Sentence

ClaimKind = Literal["object", "number", "place", "yes_no", "statement"]
CLAIM_KINDS: tuple[ClaimKind, ...] = ("object", "number", "place", "yes_no", "statement")


@dataclass(frozen=True, slots=True)
class ExtractedClaim:
    """One claim of an answer, before anybody judged it.

    Attributes:
        kind: what it is about.
        start: its first character in the answer.
        stop: the character after its last.
        statement: the claim as a sentence of its own, without a negation; what is verified.
        negated: whether the answer claims that the statement is false ("there is no dog", a "no").
        noun: what it is about, without article and number; empty for yes, no and whole sentences.
        number: how many, for ``"number"``.
        place: where, as written, for ``"place"``.
        other: the noun that a place is relative to; empty for places in the picture.
        picture: index of the picture that the answer names; None where it names none.
    """

    kind: ClaimKind
    start: int
    stop: int
    statement: str
    negated: bool = False
    noun: str = ""
    number: int | None = None
    place: str = ""
    other: str = ""
    picture: int | None = None


class ClaimExtractor(Protocol):
    """Takes an answer apart."""

    def __call__(self, text: str, question: str = "") -> Sequence[ExtractedClaim]:
        """The claims of an answer, in the order of their first characters.

        Args:
            text: the answer.
            question: what it answers: "Three." claims nothing without it.
        """
        ...


@dataclass(frozen=True, slots=True)
class EnglishClaims:
    """Claims of plain English sentences.

    Attributes:
        nouns: spelling of a noun -> its singular with its article ("dogs" -> "a dog"); statements about these nouns are
            in the singular. Other nouns stay as they are written.
    """

    nouns: Mapping[str, str] | None = None

    def __call__(self, text: str, question: str = "") -> list[ExtractedClaim]:
        """See `ClaimExtractor`."""
        claims: list[ExtractedClaim] = []
        named: set[str] = set()
        asked_about = _Question.of(question)
        for sentence in phrases.sentences(text):
            if not phrases.abstains(sentence.text):
                claims += self._of_sentence(sentence, asked_about, named)
            elif any(phrase.noun.lower() not in question.lower() for phrase in sentence.noun_phrases):
                # It names what nobody asked about ("I am not sure, but there is a dog"): who knows what it claims.
                claims.append(_whole(sentence))
        return sorted(claims, key=lambda claim: (claim.start, claim.stop))

    def _of_sentence(self, sentence: Sentence, question: _Question, named: set[str]) -> list[ExtractedClaim]:
        picture = sentence.picture if sentence.picture is not None else question.picture
        claims: list[ExtractedClaim] = []
        covered: list[tuple[int, int]] = []
        said = sentence.yes_or_no
        if said is not None:
            word, start, stop = said
            covered.append((start, stop))
            kind: ClaimKind = "statement" if question.is_twisted else "yes_no"
            # "Does picture 1 show a vase?" "Yes, picture 2 shows a vase.": the yes is about picture 1.
            about = question.picture if question.picture is not None or question.is_twisted else picture
            claims.append(
                ExtractedClaim(
                    kind, start, stop, question.statement, negated=word == "no", noun=question.noun, picture=about
                )
            )
        for phrase in sentence.noun_phrases:
            covered.append((phrase.start, phrase.stop))
            claims += self._of_phrase(phrase, named, picture)
        if sentence.bare_number is not None and question.noun:
            count, start, stop = sentence.bare_number
            covered.append((start, stop))
            claims.append(self._number(count, start, stop, question.noun, picture))
        for place in sentence.places:
            covered.append((place.start, place.stop))
            claims += self._of_place(place, question, picture)
        if sentence.says_more_than(covered):
            claims.append(_whole(sentence, picture))
        return claims

    def _of_phrase(self, phrase: NounPhrase, named: set[str], picture: int | None) -> list[ExtractedClaim]:
        noun = phrase.noun.lower()
        keys = {self._singular(noun), phrases.singular(noun.split()[-1])}
        if phrase.definite and keys & named:
            return []
        named |= keys
        start = phrase.start if phrase.number == 0 else phrase.noun_start
        claim = ExtractedClaim(
            "object", start, phrase.stop, self._exists(phrase), negated=phrase.negated, noun=noun, picture=picture
        )
        if phrase.number is None or phrase.negated:
            return [claim]
        return [self._number(phrase.number, *phrase.determiner, noun, picture), claim]

    def _of_place(self, place: Place, question: _Question, picture: int | None) -> list[ExtractedClaim]:
        subject = place.subject or question.noun
        if not subject:
            return []
        verb = "are" if place.plural else "is"
        statement = f"The {subject} {verb} {place.text}."
        other = place.other.lower()
        return [
            ExtractedClaim(
                "place",
                place.start,
                place.stop,
                statement,
                negated=place.negated,
                noun=subject.lower(),
                place=place.words,
                other=other,
                picture=picture,
            )
        ]

    def _number(self, count: int, start: int, stop: int, noun: str, picture: int | None) -> ExtractedClaim:
        verb = "is" if count == 1 else "are"
        exactly = "exactly " if count == 1 else ""
        statement = f"There {verb} {exactly}{phrases.number_word(count)} {noun} in the image."
        return ExtractedClaim("number", start, stop, statement, noun=noun, number=count, picture=picture)

    def _exists(self, phrase: NounPhrase) -> str:
        noun = phrase.noun.lower()
        known = (self.nouns or {}).get(noun)
        if known is not None:
            return f"There is {known} in the image."
        if phrase.plural:
            return f"There are {noun} in the image."
        return f"There is {phrases.with_article(noun)} in the image."

    def _singular(self, noun: str) -> str:
        return (self.nouns or {}).get(noun, phrases.singular(noun))


def _whole(sentence: Sentence, picture: int | None = None) -> ExtractedClaim:
    """A whole sentence as a claim."""
    return ExtractedClaim("statement", *sentence.span, sentence.text.strip(), picture=picture)


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked: the statement that a yes would make, what it is about, and whether a yes is a plain one."""

    statement: str
    noun: str
    picture: int | None
    is_twisted: bool

    @classmethod
    def of(cls, question: str) -> _Question:
        last = phrases.last_line(question)
        nouns = [phrase.noun for sentence in phrases.sentences(last) for phrase in sentence.noun_phrases]
        counted = phrases.counted_noun(last)
        return cls(
            statement=phrases.yes_statement(last),
            noun=counted or (nouns[0] if nouns else ""),
            picture=phrases.picture_named(last),
            is_twisted=phrases.is_twisted(last),
        )
