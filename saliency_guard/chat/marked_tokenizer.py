"""A tokenizer that takes marks out of what it is given, writes as text what they say is text, and keeps positions."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from transformers import BatchEncoding

from saliency_guard.chat.control_tokens import ControlTokens, Splitter
from saliency_guard.chat.marks import MarkedText, Marks
from saliency_guard.errors import MessageError

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One text that was encoded.

    Attributes:
        text: without marks; what was text alone is written out.
        ids: its token ids.
        offsets: where each token stands in ``text``; None where the tokenizer does not tell.
        ranges: where the texts with a number stand in it.
        cut: numbers of texts that are not whole in it.
    """

    text: str
    ids: list[int]
    offsets: list[Range] | None
    ranges: Mapping[int, list[Range]]
    cut: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Way:
    """How pieces that are text alone are kept apart: by a token in their place, and a line break behind it."""

    splitter: Splitter
    break_ids: tuple[int, ...] | None

    @property
    def text(self) -> str:
        return self.splitter.text + ("" if self.break_ids is None else "\n")


@dataclass(slots=True)
class MarkedReader:
    """Encodes marked texts.

    Args:
        controls: the control tokens.
        marks: the marks that may be in the texts.

    Attributes:
        rows: the texts that were encoded.
        taken: how many of each mark were taken out.
    """

    controls: ControlTokens
    marks: Marks
    rows: list[Row] = field(init=False, default_factory=list)
    taken: Counter[str] = field(init=False, default_factory=Counter)

    def tokenizer(self) -> Any:
        """The tokenizer, but for what it does when it is called; itself it is left as it was."""
        marked = copy.copy(self.controls.tokenizer)
        marked.__class__ = _marked_class(type(marked))
        marked._saliency_guard_reader = self
        return marked

    def encode(self, call: Callable[..., Any], texts: Sequence[str], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Encode texts as a tokenizer does.

        Args:
            call: the tokenizer.
            texts: with marks.
            kwargs: of the call.

        Returns:
            What the tokenizer does, as lists.

        Raises:
            MessageError: if what is text alone cannot be kept apart from control tokens.
        """
        read = [self.marks.read(text) for text in texts]
        for text in texts:
            self.taken += self.marks.count(text)
        if not any(text.literals for text in read):
            columns = self._call(call, [text.text for text in read], kwargs)
            self._keep(read, columns)
            return columns
        for way in self._ways():
            parted = self._parted(call, read, kwargs, way)
            if parted is not None:
                self._keep(read, parted)
                return parted
        msg = "the tokenizer cannot tell control tokens in the text of messages from those of the chat template"
        raise MessageError(msg)

    def _ways(self) -> Iterator[_Way]:
        for splitter in self.controls.splitters:
            if self.controls.line_break is not None:
                yield _Way(splitter, self.controls.line_break)
            yield _Way(splitter, None)

    def _call(self, call: Callable[..., Any], texts: Sequence[str], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        offsets = {"return_offsets_mapping": True} if getattr(self.controls.tokenizer, "is_fast", False) else {}
        return dict(call(list(texts), **{**kwargs, **offsets, "return_tensors": None}))

    def _keep(self, read: Sequence[MarkedText], columns: Mapping[str, Any]) -> None:
        for index, text in enumerate(read):
            offsets = columns["offset_mapping"][index] if "offset_mapping" in columns else None
            self.rows.append(Row(text.text, list(columns["input_ids"][index]), offsets, text.ranges, text.cut))

    def _parted(
        self, call: Callable[..., Any], read: Sequence[MarkedText], kwargs: Mapping[str, Any], way: _Way
    ) -> dict[str, Any] | None:
        """Encode texts with a splitter in place of every piece that is text alone, and put the piece's ids there."""
        handed = [_without_literals(text, way.text) for text in read]
        if any(text.count(way.splitter.text) != len(each.literals) for text, each in zip(handed, read, strict=True)):
            return None
        columns = self._call(call, handed, kwargs)
        for index, (each, text) in enumerate(zip(read, handed, strict=True)):
            rows = {name: list(column[index]) for name, column in columns.items() if _is_column(column, index)}
            if not self._only_from_text(call, rows["input_ids"], text, kwargs):
                return None
            spliced = self._spliced(each, rows, way)
            if spliced is None:
                return None
            for name, values in spliced.items():
                columns[name][index] = values
        return columns

    def _only_from_text(
        self, call: Callable[..., Any], ids: Sequence[int], text: str, kwargs: Mapping[str, Any]
    ) -> bool:
        """Whether there are no more control tokens than the text and the tokenizer's frame around it account for."""
        written = Counter(self.controls.pattern.findall(text))
        frame = Counter(call("", **{**kwargs, "return_tensors": None})["input_ids"])
        seen = Counter(ids)
        return all(
            seen[token_id] <= written[string] + frame[token_id] for string, token_id in self.controls.exact.items()
        )

    def _spliced(self, text: MarkedText, rows: Mapping[str, list[Any]], way: _Way) -> dict[str, list[Any]] | None:
        """All columns of one text with the literals' tokens in place of the splitters."""
        ids = rows["input_ids"]
        at = [index for index, token_id in enumerate(ids) if token_id == way.splitter.token_id]
        gap = 1 + len(way.break_ids or ())
        if len(at) != len(text.literals) or any(tuple(ids[k + 1 : k + gap]) != (way.break_ids or ()) for k in at):
            return None
        result: dict[str, list[Any]] = {name: [] for name in rows}
        shown = _Shown(text.literals, len(way.text))
        before = 0
        for index, literal in zip([*at, len(ids)], [*text.literals, None], strict=True):
            for name, values in rows.items():
                part = values[before:index]
                result[name] += map(shown.range, part) if name == "offset_mapping" else part
            before = index + gap
            if literal is None:
                break
            spelt = self._spelt(text.text, literal)
            if spelt is None:
                return None
            for name, values in rows.items():
                result[name] += _literal_values(name, values[index], spelt)
        return result

    def _spelt(self, text: str, literal: Range) -> list[tuple[int, Range]] | None:
        """The tokens of a piece that is text alone, and where each stands."""
        start, stop = literal
        if start == stop:
            return []
        spelt = self.controls.spell(text[start:stop])
        if spelt is None:
            return None
        pieces = [self.controls.tokenizer.decode([token_id]) for token_id in spelt]
        if "".join(pieces) != text[start:stop]:
            return [(token_id, literal) for token_id in spelt]
        return list(zip(spelt, pairwise(accumulate(map(len, pieces), initial=start)), strict=True))


class _Shown:
    """From positions in a text with splitters to positions in the one with literals written out."""

    def __init__(self, literals: Sequence[Range], width: int) -> None:
        self._shifts = [0, *accumulate(stop - start - width for start, stop in literals)]
        self._ends = [start - shift + width for (start, _), shift in zip(literals, self._shifts, strict=False)]

    def range(self, offset: Range) -> Range:
        start, stop = offset
        return start + self._shift(start), stop + self._shift(stop)

    def _shift(self, position: int) -> int:
        return self._shifts[bisect_right(self._ends, position)]


def _literal_values(name: str, replaced: Any, spelt: Sequence[tuple[int, Range]]) -> list[Any]:
    """What a column says of a literal's tokens, from what it said of the splitter in their place."""
    if name == "input_ids":
        return [token_id for token_id, _ in spelt]
    if name == "offset_mapping":
        return [where for _, where in spelt]
    return [0 if name == "special_tokens_mask" else replaced] * len(spelt)


def _is_column(column: Any, index: int) -> bool:
    return isinstance(column, list) and index < len(column) and isinstance(column[index], (list, tuple))


def _without_literals(text: MarkedText, instead: str) -> str:
    pieces: list[str] = []
    end = 0
    for start, stop in text.literals:
        pieces += [text.text[end:start], instead]
        end = stop
    return "".join([*pieces, text.text[end:]])


class _Marked:
    """What a tokenizer does when it is called with marked texts."""

    _saliency_guard_reader: MarkedReader

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        texts = [text] if isinstance(text, str) else text
        is_plain = isinstance(texts, (list, tuple)) and all(isinstance(each, str) for each in texts)
        call = super().__call__  # type: ignore[misc]
        if args or not texts or not is_plain or kwargs.get("text_pair") is not None:
            return call(text, *args, **kwargs)
        columns = self._saliency_guard_reader.encode(call, texts, kwargs)
        if not kwargs.get("return_offsets_mapping"):
            columns.pop("offset_mapping", None)
        tensors = kwargs.get("return_tensors")
        if isinstance(text, str) and tensors is None:
            columns = {name: column[0] for name, column in columns.items()}
        return BatchEncoding(columns, tensor_type=tensors)


_CLASSES: dict[type, type] = {}


def _marked_class(tokenizer_class: type) -> type:
    """The class of a tokenizer, but for its call; one for each, as classes cost something to make."""
    if tokenizer_class not in _CLASSES:
        _CLASSES[tokenizer_class] = type(tokenizer_class.__name__, (_Marked, tokenizer_class), {})
    return _CLASSES[tokenizer_class]
