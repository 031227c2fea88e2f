from __future__ import annotations

import asyncio

import pytest

from saliency_guard.server.errors import RequestError
from saliency_guard.server.queue import RequestQueue


class Work:
    """Holds a slot until it is told to give it back."""

    def __init__(self, queue: RequestQueue) -> None:
        self.done = asyncio.Event()
        self.runs = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(queue))

    async def _run(self, queue: RequestQueue) -> None:
        async with queue.slot():
            self.runs.set()
            await self.done.wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_so_many_run_so_many_wait_and_the_rest_is_sent_away() -> None:
    queue = RequestQueue(2, 1)
    first, second, third = Work(queue), Work(queue), Work(queue)
    await settled()
    assert (queue.running, queue.waiting) == (2, 1)
    with pytest.raises(RequestError, match="2 requests are running and 1 waiting") as raised:
        async with queue.slot():
            pass
    assert raised.value.status == 429
    assert int(raised.value.headers["retry-after"]) >= 1
    assert not third.runs.is_set()
    first.done.set()
    await third.runs.wait()
    assert (queue.running, queue.waiting) == (2, 0)
    for work in (second, third):
        work.done.set()
    await asyncio.gather(first.task, second.task, third.task)
    assert (queue.running, queue.waiting) == (0, 0)


async def test_none_may_wait() -> None:
    queue = RequestQueue(1, 0)
    async with queue.slot():
        with pytest.raises(RequestError, match="0 waiting"):
            async with queue.slot():
                pass
    async with queue.slot():
        assert queue.running == 1


async def test_who_gives_up_waiting_leaves_no_gap() -> None:
    queue = RequestQueue(1, 4)
    first, second, third = Work(queue), Work(queue), Work(queue)
    await settled()
    second.task.cancel()
    await settled()
    assert (queue.running, queue.waiting) == (1, 1)
    first.done.set()
    await third.runs.wait()
    # Cancelled in the moment in which the slot becomes free.
    fourth = Work(queue)
    await settled()
    third.done.set()
    await third.task
    fourth.task.cancel()
    await settled()
    assert (queue.running, queue.waiting) == (0, 0)
    async with queue.slot():
        assert queue.running == 1


async def test_an_error_gives_the_slot_back() -> None:
    queue = RequestQueue(1, 0)
    with pytest.raises(KeyError):
        async with queue.slot():
            raise KeyError
    assert queue.running == 0


async def test_the_time_to_try_again_grows_with_the_line() -> None:
    queue = RequestQueue(1, 100)
    assert queue.retry_after == 1
    queue.waiting = 20
    assert queue.retry_after == 21
    queue.waiting = 2000
    assert queue.retry_after == 60
