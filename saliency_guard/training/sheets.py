"""The form of training texts: a prefix that is read once, and exchanges that continue it independently.

Texts are what the model's chat template makes of messages, with ``<image>`` where a picture stands; a test holds
them against the template itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IMAGE = "<image>"
END = "</s>"
ASSISTANT = "ASSISTANT:\n"


@dataclass(frozen=True, slots=True)
class Branch:
    """One exchange.

    Attributes:
        prompt: what follows the sheet's beginning, up to where the answer starts.
        answer: the text with a loss.
        silent: characters of the answer (start, stop) without a loss: they will be forced, or cannot be known.
        short: only the answer's first token has a loss.
    """

    prompt: str
    answer: str
    silent: tuple[tuple[int, int], ...] = ()
    short: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """A prefix and its branches.

    Attributes:
        prefix: begins every branch; ends before whitespace, so that it has the same tokens when encoded alone.
        branches: the exchanges.
    """

    prefix: str
    branches: tuple[Branch, ...]

    @property
    def pictures(self) -> int:
        """Number of pictures in the prefix."""
        return self.prefix.count(IMAGE)


def sheet(prefix: str, branches: Iterable[Branch]) -> Sheet:
    """A sheet with numbered pictures, whose prefix ends after a word."""
    prefix = numbered(prefix)
    stem = prefix.rstrip()
    rest = prefix[len(stem) :]
    moved = tuple(Branch(rest + each.prompt, each.answer, each.silent, each.short) for each in branches)
    if any(not each.prompt[:1].isspace() for each in moved):
        msg = f"a branch has to begin with whitespace after {stem[-20:]!r}"
        raise ValueError(msg)
    return Sheet(stem, moved)


def numbered(text: str) -> str:
    """The text with numbered pictures where there are several, as the chat template writes them."""
    pieces = text.split(IMAGE)
    if len(pieces) <= 2:
        return text
    parts = [f"{piece}Picture {number}: {IMAGE}" for number, piece in enumerate(pieces[:-1], start=1)]
    return "".join(parts) + pieces[-1]


def opening(pictures: int = 1, *, system: str = "") -> str:
    """The beginning of a chat: the system message, and the pictures of the user's first message."""
    said = f"{system}\n" if system else ""
    return f"<s>{said}USER: " + f"{IMAGE}\n" * pictures


def asked(question: str, answer: str, *, short: bool = False) -> Branch:
    """A question, and its answer in the assistant's turn."""
    return Branch(f"{question}\n{ASSISTANT}", answer, short=short)


def history(turns: Sequence[tuple[str, str]]) -> str:
    """Earlier turns, and the beginning of the next one; the first turn's ``USER:`` is the opening's."""
    return "".join(f"{question}\n{ASSISTANT}{answer}{END}\nUSER: " for question, answer in turns)
