"""What is shown in an error is short, and never an error itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saliency_guard.errors import shown


class Broken:
    def __repr__(self) -> str:
        raise KeyError(7)


class Deep(list[Any]):
    """Not called list: shown by its own repr."""


def nested(kind: type[list[Any]]) -> list[Any]:
    value = kind()
    for _ in range(100_000):
        value = kind([value])
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        ("robot", "'robot'"),
        (7, "7"),
        (1.5, "1.5"),
        ({"a": [1]}, "{'a': [1]}"),
        (b"x", "b'x'"),
    ],
)
def test_short_values_are_shown_as_they_are(value: Any, text: str) -> None:
    assert shown(value) == text


HARD = [
    "x" * 10**7,
    b"x" * 10**7,
    bytearray(10**7),
    10**9000,
    -(10**9000),
    [10**9000],
    nested(list),
    nested(Deep),
    {"a": nested(list)},
    {"a" * 10**6: "b" * 10**6},
    list(range(10**6)),
    Broken(),
    [Broken()],
    np.zeros((1000, 1000)),
    "\ud800",
]


@pytest.mark.parametrize("value", HARD, ids=range(len(HARD)))
def test_anything_is_shown_in_a_few_words(value: Any) -> None:
    assert len(shown(value)) < 2000
    shown(value).encode()
