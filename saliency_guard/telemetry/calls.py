"""One call of a model or a policy, as a span is made of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class ObservedCall(Protocol):
    """What is told of a call while it runs; exactly one of `finished`, `failed` and `left` ends it."""

    def active(self) -> AbstractContextManager[None]:
        """Around every piece of its work: what is called there belongs to it."""

    def saw(self, item: Any) -> None:
        """It gave out a step or an attempt."""

    def finished(self, result: Any) -> None:
        """The call finished."""

    def failed(self, error: BaseException) -> None:
        """The call failed."""

    def left(self) -> None:
        """Nobody wants the rest of it."""


class ObservedGenerator(Generator[Item, Any, Any]):
    """A generator, or an iterator, whose steps are told to an `ObservedCall`.

    The call is current only while a step is made: between two steps the caller may be in another thread, or do
    something else.

    Args:
        items: what makes the steps.
        begin: begins the call, with the first step.
    """

    def __init__(self, items: Iterator[Item], begin: Callable[[], ObservedCall]) -> None:
        self._items = items
        self._begin = begin
        self._call: ObservedCall | None = None
        self._over = False

    def send(self, value: Any) -> Item:
        """The next item."""
        return self._step(partial(next, self._items) if value is None else partial(self._generator.send, value))

    def throw(self, *error: Any) -> Item:
        """Raise an error where the generator stands."""
        return self._step(partial(self._generator.throw, *error))

    def close(self) -> None:
        """End it."""
        if not self._over:
            self._over = True
            if self._call is not None:
                self._call.left()
        if isinstance(self._items, Generator):
            self._items.close()

    def __del__(self) -> None:
        self.close()

    @property
    def _generator(self) -> Generator[Item, Any, Any]:
        if not isinstance(self._items, Generator):
            msg = f"{type(self._items).__name__} is no generator"
            raise TypeError(msg)
        return self._items

    def _step(self, make: Callable[[], Item]) -> Item:
        if self._over:
            return make()
        if self._call is None:
            self._call = self._begin()
        try:
            with self._call.active():
                item = make()
        except StopIteration as end:
            self._over = True
            self._call.finished(end.value)
            raise
        except BaseException as error:
            self._over = True
            self._call.failed(error)
            raise
        self._call.saw(item)
        return item


def observed_result(work: Callable[[], Result], call: ObservedCall) -> Result:
    """What a function returns; told to the call."""
    try:
        with call.active():
            result = work()
    except BaseException as error:
        call.failed(error)
        raise
    call.finished(result)
    return result
