"""English sentences taken apart by rule: noun phrases, places, numbers, and what a question asks about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from saliency_guard.claims.english import (
    DEFINITE,
    FRAME,
    GRAMMAR,
    IRREGULAR_PLURALS,
    MEASURES,
    NEGATIONS,
    NUMBER_WORDS,
    NUMBERS,
    ONE,
    ORDINALS,
    PREPOSITIONS,
    REPORTING,
    SEVERAL,
    SPOTS,
    VERBS,
)

_WORD = re.compile(r"[A-Za-z0-9][\w'\u2019-]*")
_SENTENCE = re.compile(r"\S[^.!?\n]*(?:[.!?]+(?=\s|$|[\"')\]])|[.!?](?!\s)[^.!?\n]*)*")
_YES_NO = re.compile(r"\s*(yes|no)\b(?!\s+\w+\s+(?:is|are|shows?)\b)(?=[\s,.!;:]|$)", re.IGNORECASE)
_ABSTAINS = re.compile(
    r"\b(?:can ?not tell|can't tell|cannot see|can not see|can't see|unable to|do not know|don't know|not sure|"
    r"cannot answer|can't answer|can only answer)\b",
    re.IGNORECASE,
)
_PICTURE = re.compile(
    r"\b(?:picture|image|photo) (?:number )?(\d+|one|two|three|four|five|six|seven|eight)\b|"
    r"\b(first|second|third|fourth|fifth|sixth|seventh|eighth) (?:picture|image|photo)\b",
    re.IGNORECASE,
)
_SPOT = "left|right|top|bottom|center|centre|middle|corner|foreground|background|edge"
_PLACE = re.compile(
    rf"\b(?:on|at|in|to|near|toward|towards) the (?:far |very |upper |lower |top |bottom )*(?:{_SPOT})\b"
    r"(?:[ -](?:left|right|center|corner|side|edge|part|half|hand)\b)*"
    r"(?! (?:side )?of (?!the (?:image|picture|photo)\b))"
    r"(?: of the (?:image|picture|photo|scene|frame))?",
    re.IGNORECASE,
)
_RELATION = re.compile(
    r"\b(?:(?:to|on) the (?:left|right)(?: side)? of|on top of|in front of|next to|close to|above|below|beneath|"
    r"underneath|under|over|beside|behind|near|inside|against|on|in|at) (?=(?:the|a|an|its|his|her|their) )",
    re.IGNORECASE,
)
_NO_PICTURE = re.compile(r"\b(?:no|none of the|neither) (?:image|picture|photo)s?\b", re.IGNORECASE)
_TERSE = re.compile(r"[\s,.]*(?:please )?answer (?:with )?(?:yes or no)(?: only)?\.?$", re.IGNORECASE)
_CHOICE = re.compile(r"\b(?:yes or no|true or false)\b", re.IGNORECASE)
_NOT = re.compile(r"\b(?:not|never|without)\b|n['\u2019]t\b", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*(?:,|,?\s*and|,?\s*or)\s*", re.IGNORECASE)
_TWISTED = re.compile(
    r"\b(?:no|or|nor|neither|without|missing|absent|lacks?|(?:more|fewer|less) than|at (?:least|most)|"
    r"(?:all|both|every|each|most|none)(?: of)?(?: the| these)?(?: \w+)? (?:picture|image|photo)s?)\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[,;:]|\b(?:but|and|while)\b", re.IGNORECASE)
_HOW_MANY = re.compile(r"\bhow many ([\w -]+?)(?: (?:are|is|do|does|can|in|on|there)\b|\?|$)", re.IGNORECASE)
_THERE = re.compile(r"^(is|are) there (.+?)\??$", re.IGNORECASE)
_IS_THE = re.compile(rf"^(is|are) (the .+?) ((?:{_RELATION.pattern}|{_PLACE.pattern}).*?)\??$", re.IGNORECASE)
_DOES = re.compile(r"^(?:does|do) (.+?) (show|contain|have|include|depict) (.+?)\??$", re.IGNORECASE)
_CAN_SEE = re.compile(r"^(?:can|do) you see (.+?)\??$", re.IGNORECASE)
_TRUE = re.compile(
    r"^(?:is (?:this|the following(?: statement)?|it) true(?: that)?|true or false)[:?]? *(.+?)\??$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun with what counts or determines it; characters are the text's.

    Attributes:
        start: of the whole phrase.
        stop: after it.
        noun: without article and number.
        noun_start: where it begins.
        determiner: characters of the article or number.
        number: as many as a number word says; None for articles. 0 is "no".
        plural: whether there are several.
        definite: whether something that is known already is meant ("the dog").
        negated: whether the sentence says that there is none.
    """

    start: int
    stop: int
    noun: str
    noun_start: int
    determiner: tuple[int, int]
    number: int | None
    plural: bool
    definite: bool
    negated: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is said to be.

    Attributes:
        start: first character.
        stop: after the last.
        text: as written.
        words: the place itself: without "of the image", or the relation without its noun.
        subject: noun of what is there; empty where the sentence does not say.
        other: noun that the relation is to.
        plural: whether several things are there.
        negated: whether the sentence says that they are not there.
    """

    start: int
    stop: int
    text: str
    words: str
    subject: str
    other: str
    plural: bool
    negated: bool


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it stands in its text."""

    text: str
    start: int

    @property
    def span(self) -> tuple[int, int]:
        """Its characters in the text, without the spaces at its end."""
        return self.start, self.start + len(self.text.rstrip())

    @cached_property
    def words(self) -> list[tuple[str, int, int]]:
        """Every word in small letters, with its characters in the sentence."""
        return [(match.group().lower(), match.start(), match.end()) for match in _WORD.finditer(self.text)]

    @property
    def picture(self) -> int | None:
        """Index of the picture the sentence names, if it names exactly one."""
        return picture_named(self.text)

    @property
    def yes_or_no(self) -> tuple[str, int, int] | None:
        """The yes or no it begins with, and its characters in the text."""
        match = _YES_NO.match(self.text)
        if match is None:
            return None
        return match[1].lower(), self.start + match.start(1), self.start + match.end(1)

    @property
    def negated(self) -> bool:
        """Whether it says that no picture shows what it names."""
        return _NO_PICTURE.search(self.text) is not None

    @property
    def bare_number(self) -> tuple[int, int, int] | None:
        """A number that stands alone, and its characters in the text."""
        spelled = [word for word in self.words if word[0] != "only"]
        if len(spelled) != 1 or (count := _count(spelled[0][0])) is None or spelled[0][0] == "no":
            return None
        return count, self.start + spelled[0][1], self.start + spelled[0][2]

    @cached_property
    def noun_phrases(self) -> list[NounPhrase]:
        """Noun phrases that name things, in order."""
        return list(self._phrases())

    def _phrases(self) -> Iterator[NounPhrase]:
        words = self.words
        skipped = 1 if self.yes_or_no is not None else 0
        index = skipped
        while index < len(words):
            word = words[index][0]
            count = _count(word)
            if count is None and word not in ONE | DEFINITE | SEVERAL:
                index += 1
                continue
            if count and self.text[: words[index][1]].lower().endswith("at least "):
                count = None  # It is not said how many.
            stop = self._phrase_end(index)
            nouns = words[index + 1 : stop]
            if nouns and not {each[0] for each in nouns} & FRAME and nouns[0][0] not in REPORTING:
                first, last = nouns[0], nouns[-1]
                yield NounPhrase(
                    start=self.start + words[index][1],
                    stop=self.start + last[2],
                    noun=self.text[first[1] : last[2]],
                    noun_start=self.start + first[1],
                    determiner=(self.start + words[index][1], self.start + words[index][2]),
                    number=count,
                    plural=(count > 1 if count else last[0].endswith("s") and count == 0) or word in SEVERAL,
                    definite=word in DEFINITE,
                    negated=self.negated or count == 0 or (word not in DEFINITE and self._denies(words[index][1])),
                )
            index = max(stop, index + 1)

    def _phrase_end(self, start: int) -> int:
        """Index of the word after the noun phrase whose determiner is word ``start``."""
        words = self.words
        index = start + 1
        while index < len(words) and index - start <= 6:
            word, begins, _ = words[index]
            gap = self.text[words[index - 1][2] : begins]
            nouns = index - start - 1
            if gap.strip(" -") or word in ONE | DEFINITE | GRAMMAR or word in VERBS or _count(word) is not None:
                break
            if word in PREPOSITIONS:
                of_measure = word == "of" and words[index - 1][0] in MEASURES
                if not of_measure:
                    break
            elif nouns and re.fullmatch(r"\w{2,}(?:ing|ed)", word):
                break
            index += 1
        return index

    @cached_property
    def places(self) -> list[Place]:
        """Where things are said to be, in order."""
        places: list[Place] = []
        for match in _PLACE.finditer(self.text):
            words = re.sub(r" of the (?:image|picture|photo|scene|frame)$", "", match.group().lower())
            listed = self._listed_after(match.end())
            if listed:
                places += [self._place(match.span(), words, phrase, negated=phrase.negated) for phrase in listed]
            else:
                subject, negated = self._before(match.start()), self._denies(match.start())
                places.append(self._place(match.span(), words, subject, negated=negated))
        taken = [(place.start - self.start, place.stop - self.start) for place in places]
        for match in _RELATION.finditer(self.text):
            after = next((each for each in self.noun_phrases if each.start == self.start + match.end()), None)
            inside = any(start <= match.start() < stop for start, stop in taken)
            if after is not None and not inside:
                span = match.start(), after.stop - self.start
                words = match.group().lower().strip()
                subject, negated = self._before(match.start()), self._denies(match.start())
                places.append(self._place(span, words, subject, after, negated=negated))
        return sorted(places, key=lambda place: place.start)

    def _listed_after(self, stop: int) -> list[NounPhrase]:
        """All things of a list that a place stands before: "On the left, there is a cup and an apple."."""
        phrases = self.noun_phrases
        return self.listed if phrases and phrases[0].start >= self.start + stop else []

    def _before(self, start: int) -> NounPhrase | None:
        """The thing that was named last."""
        return next((each for each in reversed(self.noun_phrases) if each.stop <= self.start + start), None)

    @cached_property
    def listed(self) -> list[NounPhrase]:
        """The first run of noun phrases with nothing but commas and "and" between them."""
        run: list[NounPhrase] = []
        for phrase in self.noun_phrases:
            if run and not _BETWEEN.fullmatch(self.text[run[-1].stop - self.start : phrase.start - self.start]):
                break
            run.append(phrase)
        return run

    def _place(
        self,
        span: tuple[int, int],
        words: str,
        subject: NounPhrase | None,
        other: NounPhrase | None = None,
        *,
        negated: bool,
    ) -> Place:
        text = self.text[slice(*span)]
        return Place(
            start=self.start + span[0],
            stop=self.start + span[1],
            text=text if other is not None else text.lower(),
            words=words,
            subject=subject.noun if subject is not None else "",
            other=other.noun if other is not None else "",
            plural=subject.plural if subject is not None else False,
            negated=negated,
        )

    def _denies(self, position: int) -> bool:
        """Whether the clause up to a character of the sentence has a "not"."""
        before = self.text[:position]
        clause = max((match.end() for match in _CLAUSE.finditer(before)), default=0)
        return _NOT.search(before, clause) is not None

    def says_more_than(self, covered: Sequence[tuple[int, int]]) -> bool:
        """Whether there are words outside some characters of the text that claim something.

        Words for places in a picture do, where no place was understood: "The left side shows a cup.".
        """
        known = (FRAME - SPOTS) | GRAMMAR | NEGATIONS | PREPOSITIONS | REPORTING | ONE | DEFINITE | SEVERAL
        for word, start, stop in self.words:
            inside = any(a <= self.start + start and self.start + stop <= b for a, b in covered)
            if not inside and word not in known and not (_count(word) is not None and self.picture is not None):
                return True
        return False


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, in order."""
    return [Sentence(match.group(), match.start()) for match in _SENTENCE.finditer(text)]


def abstains(sentence: str) -> bool:
    """Whether a sentence says that there is no answer: it claims nothing."""
    return _ABSTAINS.search(sentence) is not None


def picture_named(text: str) -> int | None:
    """Index of the one picture that a text names ("picture 2" is 1); None where it names none or several."""
    numbers = {_picture_number(match) for match in _PICTURE.finditer(text)}
    return numbers.pop() - 1 if len(numbers) == 1 and 0 not in numbers else None


def _picture_number(match: re.Match[str]) -> int:
    if match[2]:
        return ORDINALS.index(match[2].lower()) + 1
    return _count(match[1].lower()) or 0


def counted_noun(question: str) -> str:
    """The noun of "How many ...?"; empty where nothing is counted."""
    match = _HOW_MANY.search(question)
    return match[1].strip() if match else ""


def last_line(question: str) -> str:
    """What is asked in the end, where a question has several lines."""
    return question.strip().splitlines()[-1].strip() if question.strip() else ""


def is_twisted(question: str) -> bool:
    """Whether a yes says more than that something is there: "no", "or", "more than", "without", all of the pictures.

    Small models answer such questions by what is named, and a plain check of the statement goes wrong with them.
    """
    return _TWISTED.search(_CHOICE.sub("", question)) is not None


def yes_statement(question: str) -> str:
    """The statement that "yes" makes of a question; it names the question where that is of no known form."""
    return question_as_statement(question) or f"The answer to this question is yes: {question}"


def question_as_statement(question: str) -> str:
    """The statement that "yes" makes of a question; empty where the question is of no known form."""
    question = _TERSE.sub("", question).strip()
    if match := _TRUE.match(question):
        return _sentence(match[1])
    if match := _THERE.match(question):
        return _sentence(f"There {match[1].lower()} {match[2]}")
    if match := _IS_THE.match(question):
        return _sentence(f"{match[2]} {match[1].lower()} {match[3]}")
    if match := _CAN_SEE.match(question):
        return _sentence(f"The image shows {match[1]}")
    if match := _DOES.match(question):
        return _sentence(f"{match[1]} {match[2].lower()}s {match[3]}")
    return ""


def _sentence(text: str) -> str:
    text = text.strip().rstrip("?. ")
    return f"{text[0].upper()}{text[1:]}." if text else ""


def number_word(count: int) -> str:
    """``"three"`` for 3; digits above twenty."""
    return NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else str(count)


def with_article(noun: str) -> str:
    """``"an apple"``, ``"a dog"``."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def singular(noun: str) -> str:
    """A noun without its plural ending, to tell whether two are the same."""
    if noun.startswith("pairs of "):
        return f"pair of {noun.removeprefix('pairs of ')}"
    head, _, last = noun.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        return f"{head} {IRREGULAR_PLURALS[last]}".strip()
    for ending, instead in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if noun.endswith(ending):
            return noun[: -len(ending)] + instead
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def _count(word: str) -> int | None:
    if word.isascii() and word.isdigit() and len(word) <= 4:
        return int(word)
    return NUMBERS.get(word)
