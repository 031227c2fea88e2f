"""What a text claims that can be checked: objects, a yes or no, a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.pope import says_yes
from saliency_guard.scenes.vocabulary import number


@dataclass(frozen=True, slots=True)
class Claim:
    """Something a text says that can be checked: where it begins, whether it is so, and what it is."""

    start: int
    grounded: bool
    name: str


Checker = Callable[[str], Sequence[Claim]]


def objects_claimed(text: str, *, shown: frozenset[str], vocabulary: ObjectVocabulary) -> list[Claim]:
    """Every object a caption names, true if the picture shows one."""
    return [Claim(one.start, one.name in shown, one.name) for one in vocabulary.find(text)]


def yes_claimed(text: str, *, truth: bool) -> list[Claim]:
    """The word an answer to a yes/no question begins with; POPE's rule says what it means."""
    start, said = len(text) - len(text.lstrip()), says_yes(text)
    return [Claim(start, said == truth, "yes" if said else "no")] if text.strip() else []


def number_claimed(text: str, *, truth: int) -> list[Claim]:
    """The first number an answer names, in words or digits."""
    names = {number(count): count for count in range(20)} | {str(count): count for count in range(100)}
    names |= {"a": 1, "an": 1}
    at = 0
    for word in text.split():
        at = text.index(word, at)
        plain = word.strip(".,!?").lower()
        if plain in names:
            return [Claim(at, names[plain] == truth, plain)]
        at += len(word)
    return []
