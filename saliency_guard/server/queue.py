"""Who is answered now, who waits, and who is sent away: so that a busy server stays a server."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from saliency_guard.server.errors import RequestError

_LONGEST = 60
_NEWEST = 0.2
"""How much the newest request counts in the mean duration."""


class RequestQueue:
    """Lets so many requests run, and so many wait, in the order in which they came.

    Args:
        running: how many run at the same time.
        waiting: how many more may wait.

    Attributes:
        running: how many run now.
        waiting: how many wait now.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self.running = 0
        self.waiting = 0
        self._most_running = running
        self._most_waiting = waiting
        self._slots = asyncio.Semaphore(running)
        self._mean_seconds = 1.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A place among those that run; waits for one.

        Raises:
            RequestError: 429, if too many wait already.
        """
        if self._slots.locked() and self.waiting >= self._most_waiting:
            msg = f"{self.running} requests are running and {self.waiting} waiting: try again later"
            headers = {"retry-after": str(self.retry_after)}
            raise RequestError(429, msg, kind="rate_limit_error", code="queue_full", headers=headers)
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        started = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self._mean_seconds += _NEWEST * (time.monotonic() - started - self._mean_seconds)
            self._slots.release()

    @property
    def retry_after(self) -> int:
        """Seconds after which those that wait now may have been answered."""
        seconds = self._mean_seconds * (self.waiting + 1) / self._most_running
        return min(_LONGEST, max(1, math.ceil(seconds)))
