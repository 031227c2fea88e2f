"""Work of a generator in a thread, for a coroutine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
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


FORK = """
import asyncio, faulthandler, os, threading
from saliency_guard.worker import in_thread

async def numbers():
    return [number async for number in in_thread((number for number in range(3)), threading.Event())]

assert asyncio.run(numbers()) == [0, 1, 2]
process = os.fork()
if not process:
    faulthandler.dump_traceback_later(60, exit=True)
    os._exit(asyncio.run(numbers()) != [0, 1, 2])
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


async def test_a_system_without_threads_left_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    await anext(in_thread(numbers(threading.Event()), threading.Event()))  # What starts threads is there already.

    def refused(_: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        async with asyncio.timeout(60):
            await anext(in_thread(numbers(threading.Event()), threading.Event()))
