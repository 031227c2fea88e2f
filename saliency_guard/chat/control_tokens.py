"""Control tokens: the strings that a tokenizer or processor reads as more than text, and how they are written as text.

Control tokens are the tokenizer's special tokens; its other added tokens where the chat template or the model's config
names them, where they mark thoughts or calls of tools, or where they are written ``<|like this|>``; and the strings
that the processor replaces by a picture. Other added tokens are text: white space, and what only shortens text (HTML).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from typing import Any

# What a model writes itself where it thinks or calls tools: its own earlier answers may hold it.
_WRITTEN_BY_MODELS = re.compile(r"</?(?:think|thinking|tool_call)>|\[/?THINK\]")
_CONTROL_SHAPE = re.compile(r"<[|\uff5c].*[|\uff5c]>", re.DOTALL)
_PUNCTUATION = re.compile(r"[^\w\s]")
# A placeholder behind this character is left as it is by processors of transformers: no picture takes its place.
_AS_IT_IS = "\U000f0000"
_PLACEHOLDER_NAMES = ("token", "tag", "placeholder")
_MEDIA = ("image", "video", "audio")
# A token is spelt after a line break: at the start of a text, some tokenizers would put a space before it.
_BEFORE = "\n"
_MOST_CUTS = 64


@dataclass(frozen=True, slots=True)
class Splitter:
    """A special token that parts a text where it is put and leaves both sides as they are."""

    text: str
    token_id: int


@dataclass(frozen=True, slots=True, eq=False)
class ControlTokens:
    """The control tokens of a tokenizer, and of the processor around it.

    Attributes:
        tokenizer: whose they are.
        strings: how they are written, the longest first.
        ids: their ids, without the one for what is unknown: that one stands for text.
        exact: those of ``strings`` that are found in a text as it is, not in a normalised form of it, with their ids.
        splitters: special tokens that can stand where a text is to be parted.
        normalise: what the tokenizer does to a text before it looks for ``normalised``; None where it does nothing.
        normalised: finds tokens that are looked for in the normalised text.
        line_break: ids of a line break, where the tokenizer puts a space before every text and every piece of one that
            follows a special token; else None.
    """

    tokenizer: Any
    strings: tuple[str, ...]
    ids: frozenset[int]
    exact: Mapping[str, int]
    splitters: tuple[Splitter, ...]
    normalise: Callable[[str], str] | None = None
    normalised: re.Pattern[str] | None = None
    line_break: tuple[int, ...] | None = None
    pattern: re.Pattern[str] = field(init=False)
    characters: re.Pattern[str] = field(init=False)
    _fillers: tuple[str, str] = field(init=False)
    _joined: str = field(init=False)
    _spelt: dict[str, tuple[int, ...] | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        telling = {char for string in self.strings for char in _PUNCTUATION.findall(string) or string}
        values = {
            "pattern": any_of(self.strings),
            "characters": any_of(telling),
            "_fillers": (_other_than(telling, "az"), _other_than(telling, "\u00b7\u00bf")),
            "_joined": "\0".join(self.strings),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def may_control(self, text: str) -> bool:
        """Whether a text may hold a control token or be a part of one that the template completes."""
        core = text.strip()
        if self.characters.search(core) or (core and core in self._joined):
            return True
        return self.normalise is not None and bool(self.characters.search(self.normalise(core)))

    def harmless(self, text: str, *, is_answer: bool = False) -> str:
        """A text that no control token can be made of, as long as the given one.

        Args:
            text: the text.
            is_answer: leave what models write themselves as it is.
        """
        if not is_answer:
            letter, sign = self._fillers
            return self.characters.sub(lambda match: sign if _PUNCTUATION.match(match[0]) else letter, text)
        kept = [match.span() for match in _WRITTEN_BY_MODELS.finditer(text)]
        cuts = [0, *chain.from_iterable(kept), len(text)]
        pieces = [text[start:stop] for start, stop in pairwise(cuts)]
        return "".join(piece if index % 2 else self.harmless(piece) for index, piece in enumerate(pieces))

    def mark(self, text: str, mark: Callable[[str], str], *, is_answer: bool = False) -> str:
        """Replace every control token in a text.

        Args:
            text: that holds them.
            mark: what to put in place of one, or of a longer piece that would be read as one.
            is_answer: leave what models write themselves as it is.
        """
        pieces: list[str] = []
        end = 0
        for match in self.pattern.finditer(text):
            is_kept = is_answer and _WRITTEN_BY_MODELS.fullmatch(match[0])
            before = self._mark_normalised(text[end : match.start()], mark)
            pieces += [before, match[0] if is_kept else mark(match[0])]
            end = match.end()
        return "".join([*pieces, self._mark_normalised(text[end:], mark)])

    def _mark_normalised(self, text: str, mark: Callable[[str], str]) -> str:
        """Replace what becomes a control token when the tokenizer normalises a text."""
        if not self._is_late(text) or self.normalise is None or self.normalised is None:
            return text
        forms = [self.normalise(char) for char in text]
        ends = list(accumulate(map(len, forms)))
        pieces: list[str] = []
        end = 0
        for match in self.normalised.finditer("".join(forms)):
            start, stop = bisect_right(ends, match.start()), bisect_left(ends, match.end()) + 1
            if start >= end:
                pieces += [text[end:start], mark(text[start:stop])]
                end = stop
        pieces.append(text[end:])
        # A normaliser may look at more than a character; what it then makes a token of is not known.
        return mark(text) if any(map(self._is_late, pieces[::2])) else "".join(pieces)

    def _is_late(self, text: str) -> bool:
        if self.normalise is None or self.normalised is None:
            return False
        return bool(self.normalised.search(self.normalise(text)))

    def spell(self, text: str) -> tuple[int, ...] | None:
        """Ids of a text that is not to be read as control tokens; None if the tokenizer cannot write it so."""
        if text not in self._spelt:
            cuts = range(1, min(len(text), _MOST_CUTS))
            # Where the whole is in the vocabulary, its parts may still be text.
            ways = chain([(text,)], ((text[:cut], text[cut:]) for cut in cuts))
            spelt = (tuple(chain.from_iterable(self._within(part) for part in parts)) for parts in ways)
            self._spelt[text] = next((ids for ids in spelt if self._spells(ids, text)), None)
        return self._spelt[text]

    def _within(self, text: str) -> list[int]:
        """Ids of a text that other text stands before."""
        before = _plain_ids(self.tokenizer, _BEFORE)
        ids = _plain_ids(self.tokenizer, _BEFORE + text)
        return ids[len(before) :] if ids[: len(before)] == before else _plain_ids(self.tokenizer, text)

    def forbids(self, token_id: int) -> bool:
        """Whether a token can be no part of an answer: it controls, and models do not write it themselves."""
        return token_id in self.ids and not _WRITTEN_BY_MODELS.fullmatch(self.tokenizer.convert_ids_to_tokens(token_id))

    def holds(self, text: str) -> bool:
        """Whether the tokenizer reads control tokens in a text."""
        return not self.ids.isdisjoint(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _spells(self, ids: Sequence[int], text: str) -> bool:
        if self.ids.intersection(ids):
            return False
        said: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return "".join(said.split()).casefold() == "".join(text.split()).casefold()


def any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Finds any of some strings, the longest first; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(strings, key=len, reverse=True))) or r"(?!)")


def _other_than(characters: Collection[str], among: str) -> str:
    first, last = map(ord, among)
    return next(char for char in map(chr, range(first, last + 1)) if char not in characters)


def control_tokens(tokenizer: Any, processor: Any = None, configs: Collection[Any] = ()) -> ControlTokens:
    """Find the control tokens.

    Args:
        tokenizer: the tokenizer.
        processor: the processor around it, with a chat template; None where there is none.
        configs: of the model, which name ids of tokens.
    """
    added: Mapping[int, Any] = tokenizer.added_tokens_decoder
    template = template_text(processor if processor is not None else tokenizer)
    placeholders = _placeholders(processor) | set(_media_strings(tokenizer, configs)) | {_AS_IT_IS}
    named = set(chain.from_iterable(_named_ids(config) for config in configs))
    special = {str(token) for token in tokenizer.all_special_tokens}
    controls: dict[str, tuple[int, Any]] = {}
    for token_id, token in added.items():
        text = token.content
        is_named = _PUNCTUATION.search(text) and (
            text in template
            or text in placeholders
            or token_id in named
            or _WRITTEN_BY_MODELS.fullmatch(text)
            or _CONTROL_SHAPE.fullmatch(text)
        )
        if text.strip() and (token.special or text in special or is_named):
            controls[text] = (token_id, token)
    strings = {*controls, *placeholders, *(text for text in special if text.strip())}
    known = {text: tokenizer.convert_tokens_to_ids(text) for text in strings}
    unknown = _unknown_id(tokenizer)
    ids = {token_id for token_id in known.values() if token_id is not None and token_id != unknown}
    normalise = _normaliser(tokenizer)
    late = [text for text, (_, token) in controls.items() if token.normalized] if normalise is not None else []
    return ControlTokens(
        tokenizer=tokenizer,
        strings=tuple(sorted(strings, key=lambda text: (-len(text), text))),
        ids=frozenset(ids),
        exact={text: token_id for text, (token_id, _) in controls.items() if token_id != unknown and text not in late},
        splitters=_splitters(tokenizer, controls),
        normalise=normalise if late else None,
        normalised=any_of([normalise(text) for text in late]) if normalise is not None and late else None,
        line_break=tuple(_plain_ids(tokenizer, _BEFORE)) if _puts_spaces(tokenizer) else None,
    )


def template_text(processor: Any) -> str:
    """The source of a processor's chat templates."""
    template = getattr(processor, "chat_template", None)
    templates = template.values() if isinstance(template, Mapping) else [template]
    return "\n".join(text for text in templates if isinstance(text, str))


def _placeholders(processor: Any) -> set[str]:
    """The strings a processor works with: its pictures' placeholders, and what it sets around them."""
    values = vars(processor).items() if hasattr(processor, "__dict__") else ()
    named = (value for name, value in values if any(word in name for word in _PLACEHOLDER_NAMES))
    strings = (getattr(value, "content", value) for value in named)  # It may be a token, not a string.
    return {text for text in strings if isinstance(text, str) and len(text) > 1 and _PUNCTUATION.search(text)}


def _media_strings(tokenizer: Any, configs: Iterable[Any]) -> Iterable[str]:
    """How the tokens are written at which the model takes pictures, were they no added tokens."""
    for config in configs:
        for name in chain.from_iterable((f"{kind}_token_id", f"{kind}_token_index") for kind in _MEDIA):
            token_id = getattr(config, name, None)
            text = tokenizer.convert_ids_to_tokens(token_id) if isinstance(token_id, int) else None
            if isinstance(text, str) and len(text) > 2 and _PUNCTUATION.search(text):
                yield text


def _named_ids(config: Any) -> Iterable[int]:
    for name, value in config.to_dict().items():
        if name.endswith(("token_id", "token_index")):
            yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int))


def _unknown_id(tokenizer: Any) -> int | None:
    """The id of text that is in no vocabulary, where it is nothing else besides."""
    others = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.cls_token, tokenizer.sep_token}
    return None if tokenizer.unk_token in others else tokenizer.unk_token_id


def _splitters(tokenizer: Any, controls: Mapping[str, tuple[int, Any]]) -> tuple[Splitter, ...]:
    ends = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.cls_token, tokenizer.sep_token}
    clean = [
        (text in ends, text != tokenizer.pad_token, Splitter(text, token_id))
        for text, (token_id, token) in controls.items()
        if token.special
        and text != tokenizer.unk_token
        and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
    ]
    return tuple(splitter for *_, splitter in sorted(clean, key=lambda entry: entry[:2]))


def _normaliser(tokenizer: Any) -> Callable[[str], str] | None:
    normalizer = tokenizer.backend_tokenizer.normalizer if getattr(tokenizer, "is_fast", False) else None
    return None if normalizer is None else normalizer.normalize_str


def _puts_spaces(tokenizer: Any) -> bool:
    tokens = tokenizer.convert_ids_to_tokens(_plain_ids(tokenizer, "a"))
    return bool(tokens) and str(tokens[0]).startswith("\u2581")


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text by the tokenizer's vocabulary alone, without its added tokens."""
    if not getattr(tokenizer, "is_fast", False):
        tokens = tokenizer.tokenize(text, split_special_tokens=True)
        return [int(token_id) for token_id in tokenizer.convert_tokens_to_ids(tokens)]
    # Not by the tokenizer's switch for it: that is one for all threads.
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    splits = [text] if backend.pre_tokenizer is None else [s for s, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for split in splits for token in backend.model.tokenize(split)]
