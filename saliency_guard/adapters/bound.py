"""A context variable that has a value inside a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Value = TypeVar("Value")


@contextmanager
def bound(variable: ContextVar[Value] | ContextVar[Value | None], value: Value) -> Iterator[Value]:
    """The value, which the variable has inside, in tasks and threads that are started inside, too."""
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)  # type: ignore[arg-type]
