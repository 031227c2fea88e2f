"""What is told of calls, generators among them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from saliency_guard.telemetry.calls import ObservedGenerator, observed_result


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.is_active = False

    @contextmanager
    def active(self) -> Iterator[None]:
        self.is_active = True
        yield
        self.is_active = False

    def saw(self, item: Any) -> None:
        self.log.append(item)

    def finished(self, result: Any) -> None:
        self.log.append(("finished", result))

    def failed(self, error: BaseException) -> None:
        self.log.append(("failed", type(error).__name__))

    def left(self) -> None:
        self.log.append("left")


def echo(told: Told) -> Generator[Any, Any, str]:
    sent: Any = "start"
    while sent != "stop":
        assert told.is_active
        try:
            sent = yield sent
        except KeyError:
            sent = "caught"
    return "end"


def test_steps_sends_and_errors_go_through() -> None:
    told = Told()
    steps = ObservedGenerator(echo(told), lambda: told)
    assert told.log == []
    assert next(steps) == "start"
    assert not told.is_active
    assert steps.send(1) == 1
    assert steps.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration) as end:
        steps.send("stop")
    assert end.value.value == "end"
    assert told.log == ["start", 1, "caught", ("finished", "end")]
    steps.close()
    assert told.log[-1] == ("finished", "end")


def test_a_generator_that_is_left_says_so_once() -> None:
    told = Told()
    steps = ObservedGenerator(echo(told), lambda: told)
    next(steps)
    del steps
    assert told.log == ["start", "left"]


def test_a_generator_that_is_never_begun_is_no_call() -> None:
    told = Told()
    ObservedGenerator(echo(told), lambda: told).close()
    assert told.log == []


def test_an_error_of_a_step_ends_the_call() -> None:
    told = Told()
    steps = ObservedGenerator(echo(told), lambda: told)
    next(steps)
    with pytest.raises(ValueError, match="no"):
        steps.throw(ValueError("no"))
    assert told.log == ["start", ("failed", "ValueError")]


def test_iterators_that_are_no_generators() -> None:
    told = Told()
    steps = ObservedGenerator(iter([1]), lambda: told)
    assert list(steps) == [1]
    assert told.log == [1, ("finished", None)]
    other = ObservedGenerator(iter([1]), Told)
    with pytest.raises(TypeError, match="no generator"):
        other.send(3)


def test_results_and_errors_of_functions() -> None:
    told = Told()
    assert observed_result(lambda: 3, told) == 3
    with pytest.raises(ZeroDivisionError):
        observed_result(lambda: 1 // 0, told)
    assert told.log == [("finished", 3), ("failed", "ZeroDivisionError")]
