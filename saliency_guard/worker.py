"""Work of a generator for a coroutine: in a worker thread, a step at a time, and stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

Item = TypeVar("Item")


async def in_thread(items: Generator[Item, None, Any], cancel: threading.Event) -> AsyncGenerator[Item, None]:
    """A generator's items, made in a worker thread of their own, so that the event loop is never blocked.

    Leaving (``break``, ``aclose``, a cancelled task) stops the work between two tokens and waits for that.

    Args:
        items: what does the work.
        cancel: set when the work is to stop; the work may look at it where a step is long.
    """
    end: Any = object()
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="saliency-guard")
    try:
        while True:
            step = loop.run_in_executor(thread, partial(contextvars.copy_context().run, partial(next, items, end)))
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


async def _finished(step: asyncio.Future[Any]) -> None:
    """Wait for a step however often the waiting is cancelled: a generator cannot be closed while it runs."""
    while not step.done():
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError:
            continue
    if not step.cancelled():
        step.exception()  # What it came to does not matter any more.
