from __future__ import annotations

from typing import Any

import pytest

from saliency_guard import ConfigError, MessageError
from saliency_guard.chat.limits import MAX_IMAGES, MAX_MESSAGES, MAX_PARTS, MAX_TEXT, Budget, require_messages


def nested(depth: int, kind: type) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def test_plain_values_are_copied() -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": ()}}
    copy = Budget().plain(value, "here")
    assert copy == {"a": [1, 2.5, None, True, "ü"], "b": {"c": []}}
    assert copy["a"] is not value["a"]


@pytest.mark.parametrize(
    "value",
    [
        {1: "a"},
        {None: "a"},
        {"a": {2}},
        {"a": b"x"},
        {"a": object()},
        {"a": 10**5000},
        {"a": "\ud800"},
        {"\ud800": "a"},
        {"a": 1j},
        nested(40, list),
        nested(100_000, list),
        nested(100_000, dict),
        range(10**9),
        ["x" * (MAX_TEXT + 1)],
    ],
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    for error in (MessageError, ConfigError):
        with pytest.raises(error, match="here"):
            Budget(error).plain(value, "here")


def test_limits_are_of_all_together() -> None:
    budget = Budget()
    budget.text("x" * MAX_TEXT, "here")
    with pytest.raises(MessageError, match=str(MAX_TEXT)):
        budget.text("x", "here")
    budget.parts(MAX_PARTS)
    with pytest.raises(MessageError, match=str(MAX_PARTS)):
        budget.parts(1)
    for _ in range(MAX_IMAGES):
        budget.image()
    with pytest.raises(MessageError, match=str(MAX_IMAGES)):
        budget.image()


@pytest.mark.parametrize("messages", ["hello", b"hello", {"role": "user"}, 7, None, iter([])])
def test_messages_are_a_list(messages: Any) -> None:
    with pytest.raises(MessageError, match="messages must be a list of dicts, not"):
        require_messages(messages, "dicts")


def test_a_conversation_has_a_largest_number_of_messages() -> None:
    require_messages([7] * MAX_MESSAGES, "dicts")
    with pytest.raises(MessageError, match=rf"there are {MAX_MESSAGES + 1} messages: at most {MAX_MESSAGES}"):
        require_messages([7] * (MAX_MESSAGES + 1), "dicts")
