"""Waiting no longer than until a point in time, for calls and sockets that know none."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any


def seconds_left(end: float) -> float:
    """Seconds until ``end``, by `time.monotonic`.

    Raises:
        TimeoutError: if there are none.
    """
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def in_time(call: Callable[[], Any], end: float) -> Any:
    """What a call gives that knows no limit of time: looking up a name may take long."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except Exception as error:  # noqa: BLE001 - raised below, by who waits
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True, name="saliency-guard-resolve")
    thread.start()
    thread.join(seconds_left(end))
    if not outcome:
        raise TimeoutError
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


class TimedSocket:
    """A connected socket as `http.client` uses it; every wait is one for what is left of the time.

    Args:
        sock: the socket.
        end: when the time is over.
        most: bytes that are read, headers included.
    """

    def __init__(self, sock: socket.socket, end: float, most: int) -> None:
        self._sock = sock
        self._end = end
        self._most = most

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._sock.settimeout(seconds_left(self._end))
        self._sock.sendall(data)

    def makefile(self, _: str) -> io.BufferedReader:
        """What comes in, as a file."""
        return io.BufferedReader(_Reader(self._sock, self._end, self._most))

    def close(self) -> None:
        """Closed by who opened it: the answer is still being read."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, end: float, most: int) -> None:
        self._sock = sock
        self._end = end
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(seconds_left(self._end))
        size = self._sock.recv_into(buffer)
        self._most -= size
        if self._most < 0:  # Whatever the answer says of its own length.
            msg = "there is too much of it"
            raise OSError(msg)
        return size
