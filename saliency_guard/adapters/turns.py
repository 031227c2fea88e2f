"""Whether a turn of a chat is about a picture: what guards score where nobody tells them otherwise.

A turn with a picture of its own always is. A later turn is about an earlier picture unless something speaks against it:
it asks for what no picture shows (a named person or place, arithmetic, a text task, a greeting), neither the question
nor the answer refers to a picture or to anything that was said about one, and the answer claims nothing that was not
asked for ("There is a zebra." after "Thank you!"). The words are English: turns in another language count as being
about the picture. Where this is too coarse, pass ``should_score``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

NO_PICTURE = "there is no picture in the chat"
OTHER_SUBJECT = "the turn is not about the picture"

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_LETTERS_OR_NUMBER = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+")
_ARITHMETIC = re.compile(r"\d\s*[-+*/x^]\s*\d")
_EXISTENCE = re.compile(r"\bthere(?:['\u2019]s|\s+(?:is|are|was|were))\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?:;\n]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in _WORD.findall(text))


_PICTURE = _words(
    """image images picture pictures photo photos photograph photographs screenshot figure chart diagram drawing scene
    see seen sees saw look looks looking show shows shown showing visible depicted depicts describe describes left right
    behind front above below beneath background foreground top bottom corner middle colour color coloured colored
    wearing"""
)
"""Words of questions and answers about pictures."""

_POINTING = _words("it its this that these those there they them their he him his she her here")
"""Words of a question that may stand for what was said about a picture."""

_TEXT_TASK = _words("translate translation rhyme poem essay code program function synonym define spell")
_PLEASANTRY = _words("hello hi hey thanks thank bye goodbye ok okay welcome please great good morning you")

_POLITE_ANSWER = _PLEASANTRY | _words(
    """you're you'll your yours i i'm i'll me my we it it's is are am was were be being been have has had a an the of to
    for with in on at about from and or but if so as that that's this there here any anything anytime something
    everything all more further other else much very just too well again back always today tomorrow now soon later day
    afternoon evening night time glad happy pleasure pleased nice wonderful best care enjoy hope help helped helpful
    helping assist assistance feel free ask asking let know need needs want wish would like could can may will do does
    doing did fine question questions happen what how when sure certainly course problem worries worry mention don't no
    not come ready chat talk take rest"""
)
"""Words of an answer to a pleasantry that claims nothing."""

_QUESTION_OPENERS = _words("what which who whose whom where when why how is are does did do can could tell name")
_NUMBER_WORDS = _words("zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand")
_FREE_TEXT = _words("rhyme poem essay code program function")

_FUNCTION_WORDS = _words(
    """the and are but for not you your who whose was were has have had can could would should may might will with from
    what which where when why how does did about into than then also only some more most very just like all any one two
    tell please answer question many much name yes its detail"""
)
_LEAST_CONTENT = 3
"""Shorter words say nothing about the subject, and neither do function words."""


@dataclass(frozen=True, slots=True)
class TurnMessage:
    """A message of a chat, as far as it matters here.

    Attributes:
        text: of it.
        is_user: whether the user wrote it.
        has_picture: whether there is a picture in it, or something that may be one.
    """

    text: str
    is_user: bool
    has_picture: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """The last turn of a chat.

    Attributes:
        question: the texts of its user.
        answer: the answer to it.
        earlier: the texts before it, since the first picture.
        has_picture: whether it has a picture of its own, from the user or a tool.
        chat_has_picture: whether it or an earlier turn has one.
    """

    question: str
    answer: str
    earlier: Sequence[str]
    has_picture: bool
    chat_has_picture: bool

    @classmethod
    def last_of(cls, chat: Sequence[TurnMessage], answer: str, *, saw_picture: bool = False) -> Turn:
        """The last turn of a chat: it begins with the first of the user's last messages in a row.

        Args:
            chat: what is answered.
            answer: the answer.
            saw_picture: whether there was a picture in the chat that may be gone.
        """
        start = next((number for number in reversed(range(len(chat))) if chat[number].is_user), 0)
        while start > 0 and chat[start - 1].is_user:
            start -= 1
        first = next((number for number, message in enumerate(chat) if message.has_picture), None)
        return cls(
            question=" ".join(message.text for message in chat[start:] if message.is_user),
            answer=answer,
            earlier=[message.text for message in chat[first or 0 : start]],
            has_picture=any(message.has_picture for message in chat[start:]),
            chat_has_picture=saw_picture or first is not None,
        )

    @property
    def other_subject(self) -> str | None:
        """Why there is nothing to score; None where the turn may be about a picture."""
        if self.has_picture:
            return None
        if not self.chat_has_picture:
            return NO_PICTURE
        return OTHER_SUBJECT if self._speaks_against() and not self._refers() else None

    def _speaks_against(self) -> bool:
        """Whether the question asks for what no picture shows, and the answer claims nothing else."""
        words = [word.casefold() for word in _WORD.findall(self.question)]
        if words and all(word in _PLEASANTRY for word in words):
            return self._is_polite()
        if any(word in _TEXT_TASK for word in words):
            return any(word in _FREE_TEXT for word in words) or not self._claims_unasked()
        if _ARITHMETIC.search(self.question):
            is_number = bool(re.search(r"\d", self.answer) or _words(self.answer) & _NUMBER_WORDS)
            return is_number and not self._claims_unasked()
        return _is_english(words) and _names(self.question) and not self._claims_unasked()

    def _is_polite(self) -> bool:
        """Whether every word of the answer is one of politeness."""
        said = _LETTERS_OR_NUMBER.findall(self.answer.casefold().replace("\u2019", "'"))
        return all(word in _POLITE_ANSWER for word in said)

    def _claims_unasked(self) -> bool:
        """Whether the answer says that there is something of which the question says nothing."""
        subject = _words(self.question) - _FUNCTION_WORDS
        return any(
            _EXISTENCE.search(sentence)
            and not {word for word in _words(sentence) & subject if len(word) >= _LEAST_CONTENT}
            for sentence in _SENTENCE_END.split(self.answer)
        )

    def _refers(self) -> bool:
        question, answer = _words(self.question), _words(self.answer)
        known = {word for text in self.earlier for word in _words(text)}
        content = {word for word in (question | answer) & known if len(word) >= _LEAST_CONTENT} - _FUNCTION_WORDS
        return bool((question | answer) & _PICTURE) or bool(question & _POINTING) or bool(content)


def _is_english(words: Sequence[str]) -> bool:
    """Whether a question begins as English ones do; German, for one, writes every noun with a capital letter."""
    return any(word in _QUESTION_OPENERS for word in words[:2]) or len(set(words) & _FUNCTION_WORDS) > 1


def _names(text: str) -> bool:
    """Whether a text names a person or a place: a capital letter inside a sentence."""
    for sentence in re.split(r"[.!?:\n]+", text):
        words = _WORD.findall(sentence)
        if any(word[0].isupper() and not word.isupper() for word in words[1:]):
            return True
    return False
