"""Token ids to pieces of text that concatenate to the text exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from saliency_guard.errors import InputError

_INCOMPLETE = "\ufffd"


class Detokenizer:
    """Text of tokens as they come, one piece per token.

    A character whose bytes are spread over several tokens is given out with the last of them; the
    earlier ones have empty pieces. Only a window of recent tokens is decoded, so that a long answer
    costs no more per token than a short one.
    """

    def __init__(self, tokenizer: Any, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._ids: list[int] = []
        self._window = 0
        self._read = 0

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=self._skip, clean_up_tokenization_spaces=False
        )
        return text

    def push(self, token_id: int) -> str:
        """The text that this token completes."""
        self._ids.append(token_id)
        text = self._decode(self._ids[self._window :])
        if text.endswith(_INCOMPLETE):
            return ""
        return self._give(text)

    @property
    def pending(self) -> bool:
        """Whether the last tokens' text is still to come, with a later token or with `flush`."""
        return self._read < len(self._ids)

    def flush(self) -> str:
        """What an answer cut off inside a character still owes: the replacement character, if anything."""
        return self._give(self._decode(self._ids[self._window :]))

    def _give(self, text: str) -> str:
        known = self._decode(self._ids[self._window : self._read])
        if len(text) <= len(known):
            return ""
        self._window, self._read = self._read, len(self._ids)
        return text[len(known) :]


def pieces(tokenizer: Any, ids: Sequence[int], *, skip_special_tokens: bool = True) -> list[str]:
    """One piece of text per token; together they are the text."""
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    result = [detokenizer.push(token_id) for token_id in ids]
    if result:
        result[-1] += detokenizer.flush()
    return result


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text's token ids, and the piece of it that each stands for."""

    ids: list[int]
    pieces: list[str]


def encode(tokenizer: Any, text: str) -> EncodedText:
    """Token ids of a text without special tokens, and the piece of the text each stands for.

    The pieces are slices of ``text`` where the tokenizer knows offsets, so they concatenate to it even
    if the tokenizer normalises; otherwise they are what the ids decode to.

    Raises:
        InputError: if the text holds half a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"the text cannot be written in UTF-8: {error}"
        raise InputError(msg) from error
    if not getattr(tokenizer, "is_fast", False):
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return EncodedText(ids, pieces(tokenizer, ids))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    result: list[str] = []
    at = 0
    stops = [stop for _, stop in encoded["offset_mapping"]]
    for stop, following in zip_longest(stops, stops[1:]):
        # A character of several tokens comes with the last of them, as in `Detokenizer`.
        end = at if stop == following else max(at, stop)
        result.append(text[at:end])
        at = end
    if result:
        result[-1] += text[at:]
    return EncodedText(ids, result)
