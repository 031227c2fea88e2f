"""Which tokens of an answer count: those that say something about the picture, not its articles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from pydantic import model_validator

from saliency_guard.settings import Settings

# English function words. Words that answer (yes, no, none, not) and numbers are not among them: they claim something.
_FUNCTION_WORDS = frozenset(
    re.split(
        r"\s+",
        """a an the this that these those there here it its it's he she they them his her their we us our you
        your i me my is are was were be been being am has have had having do does did can could may might
        must shall should will would of in on at to from by with within into onto over under above below
        near next between behind beside before after for as than then so such and or but nor if while
        because although though also too very quite rather just only which who whom whose what when where
        why how some any each every both either neither other another image picture photo photograph scene
        shows show showing shown seen see visible appears appear seems seem contains contain depicts depict
        features feature pair pairs""",
    )
)
# Scripts written without spaces count character by character.
_WITHOUT_SPACES = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|(?:(?![{_WITHOUT_SPACES}])\w)+(?:['\u2019\-]\w+)*")


class TokenFilter(Settings):
    """Which tokens count towards an answer's grounding: one token per counted word, the one that begins it.

    The token that begins a word is the one that decided for it; what follows only spells it out.

    Attributes:
        count: ``"content"`` counts every word but function words (articles, prepositions, forms of "be", what only
            says that there is a picture); ``"words"`` counts only ``words``; ``"all"`` counts every token.
        words: for ``"words"``: the words, in any case.
    """

    count: Literal["content", "words", "all"] = "content"
    words: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _check(self) -> TokenFilter:
        if bool(self.words) != (self.count == "words"):
            msg = 'words go with count="words", and count="words" with words'
            raise ValueError(msg)
        if any(len(_WORD.findall(word)) != 1 for word in self.words):
            msg = "words are single words: one of them is several, or none"
            raise ValueError(msg)
        return self

    def counted(self, pieces: Sequence[str]) -> tuple[int, ...]:
        """Indices of the tokens that count.

        Args:
            pieces: every token's piece of the text; they concatenate to it.
        """
        if self.count == "all":
            return tuple(range(len(pieces)))
        wanted = {word.casefold() for word in self.words}
        starts = []
        for word in _WORD.finditer("".join(pieces)):
            spelled = word.group().casefold()
            if spelled in wanted if self.count == "words" else spelled not in _FUNCTION_WORDS:
                starts.append(word.start())
        return tuple(dict.fromkeys(token_at(pieces, start) for start in starts))


def token_at(pieces: Sequence[str], character: int) -> int:
    """Index of the token whose piece holds a character of the text.

    Args:
        pieces: every token's piece of the text; they concatenate to it.
        character: index into the text.

    Raises:
        IndexError: if the text ends before it.
    """
    for index, stop in enumerate(accumulate(map(len, pieces))):
        if stop > character:
            return index
    msg = f"the tokens end before character {character}"
    raise IndexError(msg)
