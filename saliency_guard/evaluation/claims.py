"""Finds the claims of a text that can be checked: objects, a yes or no, a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.pope import says_yes
from saliency_guard.scenes.vocabulary import number


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a text: where it begins, whether it is true, and its name."""

    start: int
    grounded: bool
    name: str


Checker = Callable[[str], Sequence[Claim]]


def objects_claimed(text: str, *, shown: frozenset[str], vocabulary: ObjectVocabulary) -> list[Claim]:
    """Every object that a caption mentions; true if the picture shows one."""
    return [Claim(mention.start, mention.name in shown, mention.name) for mention in vocabulary.find(text)]


def yes_claimed(text: str, *, truth: bool) -> list[Claim]:
    """The yes or no of an answer, by POPE's rule, at its first word."""
    start, is_yes = len(text) - len(text.lstrip()), says_yes(text)
    return [Claim(start, is_yes == truth, "yes" if is_yes else "no")] if text.strip() else []


def number_claimed(text: str, *, truth: int) -> list[Claim]:
    """The first number in an answer, in words or digits."""
    numbers = {number(count): count for count in range(20)} | {str(count): count for count in range(100)}
    numbers |= {"a": 1, "an": 1}
    start = 0
    for word in text.split():
        start = text.index(word, start)
        name = word.strip(".,!?").lower()
        if name in numbers:
            return [Claim(start, numbers[name] == truth, name)]
        start += len(word)
    return []
