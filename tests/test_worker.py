"""Work of a generator in a thread, for a coroutine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import pytest

from saliency_guard.worker import in_thread


def numbers(closed: threading.Event, cancel: threading.Event | None = None) -> Generator[int, None, None]:
    try:
        yield threading.get_ident()
        if cancel is not None:
            cancel.wait()  # A long step.
        yield from range(1_000_000)
    finally:
        closed.set()


async def test_items_are_made_in_another_thread_and_leaving_closes_the_generator() -> None:
    closed = threading.Event()
    items = in_thread(numbers(closed), threading.Event())
    assert await anext(items) != threading.get_ident()
    assert await anext(items) == 0
    await items.aclose()
    assert await asyncio.to_thread(closed.wait, 30)


async def test_a_cancelled_task_stops_a_long_step() -> None:
    closed, cancel = threading.Event(), threading.Event()
    items = in_thread(numbers(closed, cancel), cancel)
    await anext(items)
    task = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancel.is_set()
    await items.aclose()
    assert await asyncio.to_thread(closed.wait, 30)


async def test_an_error_reaches_the_coroutine() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        msg = "broken"
        raise ValueError(msg)

    items = in_thread(failing(), threading.Event())
    assert await anext(items) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(items)
