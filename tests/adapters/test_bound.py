from __future__ import annotations

from contextvars import ContextVar

import pytest

from saliency_guard.adapters import bound

NUMBER: ContextVar[int] = ContextVar("number", default=0)


def test_a_variable_has_its_value_inside_only() -> None:
    with bound(NUMBER, 1) as outer:
        assert (outer, NUMBER.get()) == (1, 1)
        with bound(NUMBER, 2):
            assert NUMBER.get() == 2
        assert NUMBER.get() == 1
    assert NUMBER.get() == 0


def fail() -> None:
    with bound(NUMBER, 3):
        raise KeyError(NUMBER.get())


def test_an_error_ends_it() -> None:
    with pytest.raises(KeyError, match="3"):
        fail()
    assert NUMBER.get() == 0
