"""Role markers: what a chat template writes around messages that is plain text, and what to do where a text holds it.

A header such as ``USER:`` is made of ordinary tokens. Nothing tells one in a message from one of the template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from jinja2 import TemplateError

from saliency_guard.chat.control_tokens import ControlTokens
from saliency_guard.errors import ConfigError, MessageError

RoleMarkersIn = Literal["keep", "escape", "refuse"]
"""What to do with role markers in the text of messages."""

ZERO_WIDTH_SPACE = "\u200b"
_MOST_WORDS = 3  # More is a sentence: a system prompt that the template brings, or a date.
_PROBES = tuple(chr(0x10FFF0 + number) for number in range(4))
_ROLES = (("system", "user", "assistant", "user"), ("user", "assistant", "user"), ("user",))


@dataclass(frozen=True, slots=True, eq=False)
class RoleMarkers:
    """The role markers of a chat template.

    Attributes:
        strings: how they are written.
        handling: what to do with them in a text.
    """

    strings: tuple[str, ...] = ()
    handling: RoleMarkersIn = "keep"
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        longest_first = sorted(self.strings, key=len, reverse=True)
        object.__setattr__(self, "pattern", re.compile("|".join(map(_as_marker, longest_first)) or r"(?!)"))

    @property
    def matters(self) -> bool:
        """Whether anything is done with them."""
        return self.handling != "keep"

    def handled(self, text: str) -> str:
        """A text as it may stand in a message: where asked for, a zero-width space parts every marker in it.

        Raises:
            MessageError: if the text holds one, and such texts are refused.
        """
        if not self.matters:
            return text
        match = self.pattern.search(text)
        if match is not None and self.handling == "refuse":
            msg = (
                f"a message holds {match[0]!r}, which the chat template writes to begin or end a turn, and "
                'role_markers="refuse" is set: take it out, or set role_markers="escape"'
            )
            raise MessageError(msg)
        return self.pattern.sub(lambda each: parted(each[0]), text)

    def apart(self, text: str) -> str:
        """A text that is no part of a marker with what stands before or after it, where markers are parted."""
        core = text.strip()
        if self.handling != "escape" or not core:
            return text
        start = text.index(core)
        return f"{text[:start]}{ZERO_WIDTH_SPACE}{core}{ZERO_WIDTH_SPACE}{text[start + len(core) :]}"

    def harmless(self, text: str) -> str:
        """A text with nothing in it that a marker could be made of, as long as the given one."""
        letters = {char for marker in self.strings for char in marker if not char.isspace()}
        fillers = {ord(char): "_" if re.match(r"\w", char) else "\u00b7" for char in letters}
        return text.translate(fillers) if self.matters else text


def role_markers_in(handling: str) -> RoleMarkersIn:
    """Check a setting.

    Raises:
        ConfigError: if it is none of the three.
    """
    known: tuple[RoleMarkersIn, ...] = get_args(RoleMarkersIn)
    for each in known:
        if handling == each:
            return each
    msg = f"role_markers={handling!r} is none of {', '.join(map(repr, known))}"
    raise ConfigError(msg)


def parted(marker: str) -> str:
    """A marker that is none any more, though it looks the same."""
    return marker[0] + ZERO_WIDTH_SPACE + marker[1:]


def find_role_markers(render: Callable[[list[dict[str, Any]]], str], controls: ControlTokens) -> tuple[str, ...]:
    """Find what a template writes around messages that is no control token.

    A bare word next to a control token (``user`` in ``<|im_start|>user``) is no marker: it begins no turn without it.

    Args:
        render: a chat template applied.
        controls: the control tokens.

    Raises:
        ConfigError: if the template takes none of the messages it is tried with.
    """
    for roles in _ROLES:
        messages = [
            {"role": role, "content": [{"type": "text", "text": probe}]}
            for role, probe in zip(roles, _PROBES, strict=False)
        ]
        try:
            prompt = render(messages)
        except TemplateError:  # Not every template takes every role: ask for less.
            continue
        around = re.split("|".join(_PROBES), prompt)
        return tuple(dict.fromkeys(marker for text in around for marker in _markers(text, controls)))
    msg = 'the chat template takes no plain message, so its role markers are not known: set role_markers="keep"'
    raise ConfigError(msg)


def _markers(text: str, controls: ControlTokens) -> Iterator[str]:
    end = 0
    for match in [*controls.pattern.finditer(text), None]:
        piece = text[end : None if match is None else match.start()]
        for number, line in enumerate(piece.split("\n")):
            marker = line.strip()
            follows_control = end > 0 and number == 0
            if not any(char.isalpha() for char in marker) or len(marker.split()) > _MOST_WORDS:
                continue
            if not (follows_control and re.fullmatch(r"\w+", marker)):
                yield marker
        end = end if match is None else match.end()


def _as_marker(marker: str) -> str:
    """A pattern for a marker: a bare word is one only as a whole word."""
    return rf"\b{marker}\b" if re.fullmatch(r"\w+", marker) else re.escape(marker)


def same_tokens(tokenizer: Any, left: str, right: str) -> bool:
    """Whether a tokenizer reads two texts as one."""
    ids: Sequence[Mapping[str, Any]] = [tokenizer(text, add_special_tokens=False) for text in (left, right)]
    return bool(ids[0]["input_ids"] == ids[1]["input_ids"])
