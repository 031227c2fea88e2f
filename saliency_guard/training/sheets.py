"""The form of training texts: a beginning that is read once, and exchanges that go on from it, each on its own.

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
        answer: what is to be learnt.
        silent: characters of the answer (start, stop) that are not learnt: they will be forced, or nobody can know.
        short: only the answer's first token is learnt.
    """

    prompt: str
    answer: str
    silent: tuple[tuple[int, int], ...] = ()
    short: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """A beginning and its branches.

    Attributes:
        prefix: begins every branch; ends where whitespace begins, so that it is cut into the same tokens alone.
        branches: the exchanges.
    """

    prefix: str
    branches: tuple[Branch, ...]

    @property
    def pictures(self) -> int:
        """How many pictures the beginning shows."""
        return self.prefix.count(IMAGE)


def sheet(prefix: str, branches: Iterable[Branch]) -> Sheet:
    """A sheet with numbered pictures, whose beginning ends at a word."""
    prefix = numbered(prefix)
    stem = prefix.rstrip()
    rest = prefix[len(stem) :]
    moved = tuple(Branch(rest + each.prompt, each.answer, each.silent, each.short) for each in branches)
    if any(not each.prompt[:1].isspace() for each in moved):
        msg = f"a branch has to begin with whitespace after {stem[-20:]!r}"
        raise ValueError(msg)
    return Sheet(stem, moved)


def numbered(text: str) -> str:
    """Pictures by their numbers, where there is more than one, as the chat template has them."""
    pieces = text.split(IMAGE)
    if len(pieces) <= 2:
        return text
    parts = [f"{piece}Picture {number}: {IMAGE}" for number, piece in enumerate(pieces[:-1], start=1)]
    return "".join(parts) + pieces[-1]


def opening(pictures: int = 1, *, system: str = "") -> str:
    """How a chat begins: what the system says, and the pictures of the user's first message."""
    said = f"{system}\n" if system else ""
    return f"<s>{said}USER: " + f"{IMAGE}\n" * pictures


def asked(question: str, answer: str, *, short: bool = False) -> Branch:
    """A question, and its answer in the assistant's turn."""
    return Branch(f"{question}\n{ASSISTANT}", answer, short=short)


def history(turns: Sequence[tuple[str, str]]) -> str:
    """Turns that are over, and the next one begun; the first turn's ``USER:`` is the opening's."""
    return "".join(f"{question}\n{ASSISTANT}{answer}{END}\nUSER: " for question, answer in turns)
