"""Whether a turn of a chat is about a picture: what guards score where nobody tells them otherwise.

A turn with a picture of its own always is. A later turn is about an earlier picture unless something speaks against it:
it asks for what no picture shows (a named person or place, arithmetic, a text task, a greeting), and neither the
question nor the answer refers to a picture or to anything that was said about one. The words are English; with other
languages, or where this is too coarse, pass ``should_score``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

NO_PICTURE = "there is no picture in the chat"
OTHER_SUBJECT = "the turn is not about the picture"

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_ARITHMETIC = re.compile(r"\d\s*[-+*/x^]\s*\d")


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

_FUNCTION_WORDS = _words(
    """the and are but for not you your who whose was were has have had can could would should may might will with from
    what which where when why how does did about into than then also only some more most very just like all any one two
    tell please answer question many much name yes its detail"""
)
_LEAST_CONTENT = 3
"""Shorter words say nothing about the subject, and neither do function words."""


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

    @property
    def other_subject(self) -> str | None:
        """Why there is nothing to score; None where the turn may be about a picture."""
        if self.has_picture:
            return None
        if not self.chat_has_picture:
            return NO_PICTURE
        return OTHER_SUBJECT if self._speaks_against() and not self._refers() else None

    def _speaks_against(self) -> bool:
        words = [word.casefold() for word in _WORD.findall(self.question)]
        if not words:
            return bool(_ARITHMETIC.search(self.question))
        is_pleasantry = all(word in _PLEASANTRY for word in words)
        is_text_task = any(word in _TEXT_TASK for word in words)
        return is_pleasantry or is_text_task or bool(_ARITHMETIC.search(self.question)) or _names(self.question)

    def _refers(self) -> bool:
        question, answer = _words(self.question), _words(self.answer)
        known = {word for text in self.earlier for word in _words(text)}
        content = {word for word in (question | answer) & known if len(word) >= _LEAST_CONTENT} - _FUNCTION_WORDS
        return bool((question | answer) & _PICTURE) or bool(question & _POINTING) or bool(content)


def _names(text: str) -> bool:
    """Whether a text names a person or a place: a capital letter inside a sentence."""
    for sentence in re.split(r"[.!?:\n]+", text):
        words = _WORD.findall(sentence)
        if any(word[0].isupper() and not word.isupper() for word in words[1:]):
            return True
    return False
