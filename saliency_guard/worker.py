"""Work of a generator for a coroutine: in a worker thread, a step at a time, and stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from saliency_guard.models.fork_safety import in_child

Item = TypeVar("Item")


async def in_thread(items: Generator[Item, None, Any], cancel: threading.Event) -> AsyncGenerator[Item, None]:
    """A generator's items, made in a worker thread of their own, so that the event loop is never blocked.

    Leaving (``break``, ``aclose``, a cancelled task) stops the work between two tokens and waits for that.

    Args:
        items: what does the work.
        cancel: set when the work is to stop; the work may look at it where a step is long.
    """
    end: Any = object()
    thread = ThreadPoolExecutor(1, thread_name_prefix="saliency-guard")
    submit: Callable[[ThreadPoolExecutor, Callable[[], Any]], Future[Any]] = _submit_first
    try:
        while True:
            work = partial(contextvars.copy_context().run, partial(next, items, end))
            step = asyncio.wrap_future(submit(thread, work))
            submit = ThreadPoolExecutor.submit
            try:
                item = await asyncio.shield(step)
            except asyncio.CancelledError:
                cancel.set()
                await _finished(step)
                raise
            if item is end:
                return
            yield item
    finally:
        cancel.set()
        thread.submit(items.close)  # Not before the step that is still running.
        thread.shutdown(wait=False)


class _Starter:
    """A thread that starts others for event loops, which must not wait in ``Thread.start``."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="saliency-guard starter")

    def forget(self) -> None:
        """In a forked child the thread is gone."""
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="saliency-guard starter")


_STARTER = _Starter()
in_child(_STARTER.forget)


def _submit_first(thread: ThreadPoolExecutor, work: Callable[[], Item]) -> Future[Item]:
    """Submit the first work of a thread, which is started for it, without waiting for that."""
    result: Future[Item] = Future()
    result.set_running_or_notify_cancel()

    def hand_on(done: Future[Item]) -> None:
        error = done.exception()
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(done.result())

    def start() -> None:
        try:
            work_done = thread.submit(work)
        except BaseException as error:  # noqa: BLE001 - a system without threads left; raised where it is waited for
            result.set_exception(error)
        else:
            work_done.add_done_callback(hand_on)

    _STARTER.thread.submit(start)
    return result


async def _finished(step: asyncio.Future[Any]) -> None:
    """Wait for a step however often the waiting is cancelled: a generator cannot be closed while it runs."""
    while not step.done():
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError:
            continue
    if not step.cancelled():
        step.exception()  # Nobody needs the result any more.
