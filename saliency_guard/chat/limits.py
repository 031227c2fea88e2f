"""How much a conversation may hold, and what may stand in its calls of tools: all checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from saliency_guard.errors import MessageError, SaliencyGuardError, shown

MAX_MESSAGES = 2_000
"""Messages of a conversation."""

MAX_PARTS = 10_000
"""Parts of all its messages together."""

MAX_IMAGES = 100
"""Pictures of a conversation."""

MAX_TEXT = 2_000_000
"""Characters of all its texts together; of all tools that it is told of, too."""

MAX_TOOLS = 256
"""Tools that a model is told of, and calls of tools in one message."""

_MAX_DEPTH = 32
_MAX_VALUES = 20_000
_MAX_DIGITS = 4_000  # In bits; Python itself refuses to write out much longer numbers.


def require_messages(messages: Any, kind: str) -> None:
    """Check that messages are a list that is not too long, before one of them is looked at.

    Args:
        messages: of a conversation.
        kind: what they must be, for the error.

    Raises:
        MessageError: if they are not.
    """
    if isinstance(messages, (str, bytes, bytearray, Mapping)) or not isinstance(messages, Sequence):
        msg = f"messages must be a list of {kind}, not {shown(messages)}"
        raise MessageError(msg)
    if len(messages) > MAX_MESSAGES:
        msg = f"there are {len(messages)} messages: at most {MAX_MESSAGES} are read"
        raise MessageError(msg)


class Budget:
    """What is left of the limits while a conversation is read.

    Args:
        error: raised where nothing is left, or a value cannot be used.
    """

    def __init__(self, error: type[SaliencyGuardError] = MessageError) -> None:
        self._error = error
        self._characters = MAX_TEXT
        self._parts = MAX_PARTS
        self._images = MAX_IMAGES
        self._values = _MAX_VALUES

    def text(self, text: str, where: str) -> None:
        """Take a text into account.

        Args:
            text: it is not looked into where it is too long.
            where: it stands, for the error.
        """
        self._characters -= len(text)
        if self._characters < 0:
            self._refuse(f"{where}: there are more than {MAX_TEXT} characters of text: shorten it")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            msg = f"{where} holds text that cannot be written in UTF-8: {error.reason} at character {error.start}"
            raise self._error(msg) from error

    def parts(self, count: int) -> None:
        """Take so many parts of a message into account."""
        self._parts -= count
        if self._parts < 0:
            self._refuse(f"the messages have more than {MAX_PARTS} parts")

    def image(self) -> None:
        """Take a picture into account."""
        self._images -= 1
        if self._images < 0:
            self._refuse(f"the messages have more than {MAX_IMAGES} images: send fewer")

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        """A copy of what JSON can say.

        Args:
            value: of texts, numbers, booleans, None, lists and objects.
            where: it stands, for the error.
            depth: of the value in another.
        """
        self._values -= 1
        if self._values < 0 or depth > _MAX_DEPTH:
            self._refuse(f"{where} holds too much: at most {_MAX_VALUES} values, nested {_MAX_DEPTH} deep")
        if isinstance(value, str):
            self.text(value, where)
            return value
        if value is None or isinstance(value, bool):
            return value
        if (isinstance(value, int) and value.bit_length() < _MAX_DIGITS) or isinstance(value, float):
            return value
        if isinstance(value, Mapping):
            return {self._key(key, where): self.plain(each, where, depth + 1) for key, each in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
            return [self.plain(each, where, depth + 1) for each in value]
        return self._refuse(f"{where} holds {shown(value)}, which JSON cannot say")

    def _key(self, key: Any, where: str) -> str:
        if not isinstance(key, str):
            self._refuse(f"{where} has the key {shown(key)}: keys are texts")
        self.text(key, where)
        return str(key)

    def _refuse(self, msg: str) -> NoReturn:
        raise self._error(msg)
