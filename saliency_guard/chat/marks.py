"""Marks in the strings of a conversation: where a text begins and ends, and which parts are literal text.

A chat template and a processor carry them along as characters like any others; `MarkedTokenizer` takes them out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass, field

from saliency_guard.errors import InputError

# Private use: no letter, no space, nothing that a template or a processor looks for.
_FIRST, _LAST = 0x100000, 0x10FFFD
_ANY = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]")


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text whose marks were taken out.

    Attributes:
        text: without marks; what a mark stands for is written out.
        literals: where pieces stand that are text alone, in order: start and stop in ``text`` (equal for a mere break).
        ranges: where the texts with a number stand in it.
        cut: numbers of texts of which only one end is there.
    """

    text: str
    literals: tuple[tuple[int, int], ...]
    ranges: dict[int, list[tuple[int, int]]]
    cut: frozenset[int]


@dataclass(slots=True)
class Marks:
    """The marks of one conversation.

    Args:
        texts: all that is said in it: characters of theirs are no marks.
    """

    texts: InitVar[Iterable[str]]
    _free: Iterator[str] = field(init=False)
    _chars: dict[str, str] = field(init=False, default_factory=dict)
    _literals: dict[str, str] = field(init=False, default_factory=dict)
    _edges: dict[str, tuple[int, bool]] = field(init=False, default_factory=dict)

    def __post_init__(self, texts: Iterable[str]) -> None:
        taken = {char for text in texts for char in _ANY.findall(text)}
        self._free = (char for char in map(chr, range(_FIRST, _LAST + 1)) if char not in taken)

    def _next(self) -> str:
        char = next(self._free, None)
        if char is None:
            msg = "the conversation has too many texts, or uses too many private characters, to keep its texts apart"
            raise InputError(msg)
        return char

    def literal(self, text: str) -> str:
        """A mark for literal text; for an empty text, a separator between two others."""
        if text not in self._chars:
            self._chars[text] = self._next()
            self._literals[self._chars[text]] = text
        return self._chars[text]

    def part(self, text: str) -> str:
        """A text with a break at both ends, white space left outside."""
        core = text.strip()
        start = text.index(core)
        gap = self.literal("")
        return f"{text[:start]}{gap}{core}{gap}{text[start + len(core) :]}" if core else text

    def edges(self, number: int, text: str, *, with_spaces: bool) -> str:
        """A text with marks of its number at both ends.

        Args:
            number: what it is called in `MarkedText.ranges`.
            text: the text.
            with_spaces: whether white space around it is marked, too: a template that strips texts would keep it.
        """
        core = text if with_spaces else text.strip()
        if not core:
            return text
        start, stop = self._next(), self._next()
        self._edges |= {start: (number, True), stop: (number, False)}
        at = text.index(core)
        return f"{text[:at]}{start}{core}{stop}{text[at + len(core) :]}"

    def without_edges(self, text: str) -> str:
        """A text without the marks of texts' ends."""
        return text.translate({ord(char): None for char in self._edges})

    def count(self, text: str) -> Counter[str]:
        """The marks in a text."""
        return Counter(char for char in _ANY.findall(text) if char in self._literals or char in self._edges)

    def has_literals(self, text: str) -> bool:
        """Whether a text holds marks of literal text."""
        return any(char in self._literals for char in _ANY.findall(text))

    def read(self, text: str) -> MarkedText:
        """Take the marks out of a text."""
        pieces: list[str] = []
        literals: list[tuple[int, int]] = []
        ranges: dict[int, list[tuple[int, int]]] = {}
        open_at: dict[int, int] = {}
        cut: set[int] = set()
        end = length = 0
        for match in _ANY.finditer(text):
            char = match[0]
            if char not in self._literals and char not in self._edges:
                continue
            before, shown = text[end : match.start()], self._literals.get(char, "")
            pieces += [before, shown]
            length += len(before)
            end = match.end()
            if char in self._literals:
                literals.append((length, length + len(shown)))
                length += len(shown)
                continue
            number, is_start = self._edges[char]
            if is_start != (number not in open_at):
                cut.add(number)
            if is_start:
                open_at[number] = length
            elif number in open_at:
                ranges.setdefault(number, []).append((open_at.pop(number), length))
        return MarkedText("".join([*pieces, text[end:]]), tuple(literals), ranges, frozenset(cut | open_at.keys()))
