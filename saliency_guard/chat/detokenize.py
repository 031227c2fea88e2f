"""Token ids to pieces of text that concatenate to the text exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, zip_longest
from typing import Any, cast

from saliency_guard.chat.control_tokens import ControlTokens, control_tokens
from saliency_guard.chat.marked_tokenizer import MarkedReader
from saliency_guard.chat.marks import Marks
from saliency_guard.errors import InputError, shown

AnswerText = str | Sequence[int]
"""An answer from anywhere: its text, or the ids that an engine with the same tokenizer wrote."""

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
        """The text of an incomplete character at the end: the replacement character, or nothing."""
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


def encode(tokenizer: Any, text: str, controls: ControlTokens | None = None) -> EncodedText:
    """Token ids of a text as an answer, without special tokens, and the piece of the text each stands for.

    Control tokens in the text are encoded as text, but for those that models write themselves. The pieces are slices
    of ``text`` where the tokenizer knows offsets, so they concatenate to it even if the tokenizer normalises;
    otherwise they are what the ids decode to.

    Args:
        tokenizer: the tokenizer.
        text: the text.
        controls: its control tokens, if they are known already.

    Raises:
        InputError: if the text holds half a surrogate pair, or a control token that the tokenizer cannot write as text.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"the text cannot be written in UTF-8: {error}"
        raise InputError(msg) from error
    controls = controls or control_tokens(tokenizer)
    marks = Marks([text])
    reader = MarkedReader(controls, marks)
    reader.tokenizer()(
        controls.mark(text, lambda control: _spellable(controls, marks, control), is_answer=True),
        add_special_tokens=False,
    )
    (row,) = reader.rows
    if row.offsets is None:
        return EncodedText(row.ids, pieces(tokenizer, row.ids))
    result: list[str] = []
    at = 0
    stops = [stop for _, stop in row.offsets]
    for stop, following in zip_longest(stops, stops[1:]):
        # A character of several tokens comes with the last of them, as in `Detokenizer`.
        end = at if stop == following else max(at, stop)
        result.append(text[at:end])
        at = end
    if result:
        result[-1] += text[at:]
    return EncodedText(row.ids, result)


def _spellable(controls: ControlTokens, marks: Marks, control: str) -> str:
    if controls.spell(control) is None:
        msg = f"the text holds {control!r}, which the tokenizer can only read as a control token: take it out"
        raise InputError(msg)
    return marks.literal(control)


def encode_answer(tokenizer: Any, answer: AnswerText, controls: ControlTokens, eos: frozenset[int]) -> EncodedText:
    """An answer to score, as token ids and pieces.

    Args:
        tokenizer: the tokenizer.
        answer: its text, or ids that are taken as they are, but for end tokens at their end.
        controls: the tokenizer's control tokens.
        eos: ids that end an answer.

    Raises:
        InputError: if it is empty or neither, as `encode`, or an id is no token's, or that of a control token that no
            answer holds.
    """
    if isinstance(answer, str):
        if not answer.strip():
            msg = "there is no answer to score: the text is empty"
            raise InputError(msg)
        return encode(tokenizer, answer, controls)
    if not isinstance(answer, Sequence) or isinstance(answer, (bytes, bytearray)):
        msg = f"an answer to score is a text or a list of token ids, not {shown(answer)}"
        raise InputError(msg)
    ids = cast("list[int]", list(answer))
    size = len(tokenizer)
    for index, token_id in enumerate(ids):
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < size:
            msg = f"token {index} of the answer is {shown(token_id)}: ids are whole numbers from 0 to {size - 1}"
            raise InputError(msg)
    while ids and ids[-1] in eos:
        ids.pop()
    for index, token_id in enumerate(ids):
        if controls.forbids(token_id):
            name = tokenizer.convert_ids_to_tokens(token_id)
            msg = f"token {index} of the answer is {name!r}, a control token that no answer holds: take it out"
            raise InputError(msg)
    if not ids:
        msg = "there is no answer to score: it has no tokens"
        raise InputError(msg)
    return EncodedText(ids, pieces(tokenizer, ids))


def aligned_offsets(tokenizer: Any, ids: Sequence[int], text: str) -> list[tuple[int, int]] | None:
    """Where tokens stand in a text, by what they decode to; None where that is not the text but for white space.

    Args:
        tokenizer: one that does not tell itself.
        ids: of the text.
        text: that was encoded.
    """
    shown = pieces(tokenizer, ids, skip_special_tokens=False)
    if "".join(shown) == text:
        return list(pairwise(accumulate(map(len, shown), initial=0)))
    places = [index for index, char in enumerate(text) if not char.isspace()]
    cores = ["".join(piece.split()) for piece in shown]
    if "".join(cores) != "".join(text.split()):
        return None
    offsets: list[tuple[int, int]] = []
    at = 0
    for core in cores:
        covered = places[at : at + len(core)]
        offsets.append((covered[0], covered[-1] + 1) if covered else (0, 0))
        at += len(core)
    return offsets
