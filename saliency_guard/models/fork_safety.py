"""What a process made by fork finds: locks that are free, models as they should be, and torch with one thread.

Only the thread that forks goes on in the child. A lock that another thread held would never be released there, and a
model that it was running would stay half-way for good. So a fork waits, for a while, until nothing of ours is being
done; meanwhile nothing new is begun. What it could not wait for raises a clear error in the child, never a hang.

Torch's pool of OpenMP threads does not survive a fork either: the thread that forked would wait for its dead threads
in the first large operation. In the child torch therefore goes on with one thread; more of them (and a GPU) take a
process that was spawned.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from weakref import WeakSet

import torch

from saliency_guard.errors import ModelError

PATIENCE = 10.0
"""Seconds that a fork waits for what other threads are doing with models."""


class ForkSafeLock:
    """A lock that its thread may take again, and that is never left locked in a forked child.

    Args:
        purpose: what is done under it, for the error in a child of a fork that could not wait for the end of that.
        spoils_all: whether such a child can use nothing of ours, not only what this lock guards.

    Attributes:
        broken: whether a fork has left what it guards half-way; taking it is an error then.
    """

    def __init__(self, purpose: str, *, spoils_all: bool = False) -> None:
        self.broken = False
        self.spoils_all = spoils_all
        self._purpose = purpose
        self._lock = threading.RLock()
        self._owner: int | None = None
        self.depth = 0
        with _REGISTER:
            _LOCKS.add(self)

    @property
    def mine(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    def take(self, timeout: float) -> bool:
        """Take the lock even while a fork waits, if it is free within so many seconds (-1: however long it takes)."""
        taken = self._lock.acquire(timeout=timeout)
        if taken:
            self._owner = threading.get_ident()
            self.depth += 1
            _THREAD.holds += 1
        return taken

    def __enter__(self) -> None:
        if self.broken:
            msg = (
                f"this process was forked while a thread was {self._purpose}, and what that works on is half-way here: "
                "start processes with multiprocessing's 'spawn', or fork before models are in use"
            )
            raise ModelError(msg)
        self.enter()

    def enter(self) -> None:
        """Take the lock, however long it takes, and not while a fork waits."""
        if not _THREAD.holds:  # A thread that holds something is waited for, and has to come to its end.
            with _GATE:
                pass
        self.take(-1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give it back."""
        _THREAD.holds -= 1
        self.depth -= 1
        if not self.depth:
            self._owner = None
        self._lock.release()

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[str]]:
        """A copy is another lock."""
        return type(self), (self._purpose,)


class _Thread(threading.local):
    """What one thread holds, and what its fork does."""

    def __init__(self) -> None:
        self.holds = 0
        self.taken: list[ForkSafeLock] = []  # By its fork, from before it to after it.
        self.missed: list[ForkSafeLock] = []  # By its fork: what others did not give back in time.
        self._working: ForkSafeLock | None = None

    @property
    def working(self) -> ForkSafeLock:
        """Held while it works on what no lock guards; no other thread but one that forks ever waits for it."""
        if self._working is None:
            self._working = ForkSafeLock("working on an answer", spoils_all=True)
        return self._working


_THREAD = _Thread()
_LOCKS: WeakSet[ForkSafeLock] = WeakSet()
_REGISTER = threading.Lock()
_GATE = threading.Lock()
"""Closed while a fork waits: what is under way goes on, what would begin does not."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Work with tensors that a fork by another thread waits for: a child born in the middle of it could hang."""
    with _THREAD.working:
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Release the fork guard around the caller's code in `uninterrupted` work: a fork must not wait for it."""
    lock = _THREAD.working
    depth = lock.depth if lock.mine else 0
    for _ in range(depth):
        lock.release()
    try:
        yield
    finally:
        for _ in range(depth):
            lock.enter()


def require_device(device: torch.device) -> None:
    """Refuse a GPU in a child of a process that used one: what is on it does not come along.

    Raises:
        ModelError: if the device is such a GPU.
    """
    if device.type == "cuda" and _GPU.left_behind:
        msg = (
            "the model is on a GPU that was in use before this process was forked, and cannot be used here: start "
            "processes with multiprocessing's 'spawn', and load the model in each"
        )
        raise ModelError(msg)


class _Gpu:
    """Whether a GPU was in use when this process was forked."""

    in_use = False
    left_behind = False


_GPU = _Gpu()


def _before() -> None:
    """Wait until all locks are free, and hold them.

    A thread that waits for a lock while it holds another must get it: nothing is held while one is waited for.
    """
    until = time.monotonic() + PATIENCE
    _GATE.acquire()
    while True:
        _REGISTER.acquire()
        wanted = [lock for lock in list(_LOCKS) if not (lock.broken or lock.mine)]
        taken = [lock for lock in wanted if lock.take(0)]
        missed = [lock for lock in wanted if lock not in taken]
        left = until - time.monotonic()
        if not missed or left <= 0:
            break  # The register stays closed, too: a child in which it is locked could make no lock.
        _REGISTER.release()
        _let_go(taken)
        if missed[0].take(left):
            missed[0].release()
    inside = [lock for lock in list(_LOCKS) if lock.mine and lock not in taken and not lock.spoils_all]
    _THREAD.taken, _THREAD.missed = taken, [*missed, *inside]
    _GPU.in_use = torch.cuda.is_initialized()


def _let_go(taken: list[ForkSafeLock]) -> None:
    while taken:
        taken.pop().release()


def _after_in_parent() -> None:
    _let_go(_THREAD.taken)
    _THREAD.missed = []
    _REGISTER.release()
    _GATE.release()


def _after_in_child() -> None:
    _let_go(_THREAD.taken)
    spoilt = any(lock.spoils_all for lock in _THREAD.missed)
    for lock in list(_LOCKS) if spoilt else _THREAD.missed:
        lock.broken = True
    _THREAD.missed = []
    _REGISTER.release()
    _GATE.release()
    _GPU.left_behind = _GPU.left_behind or _GPU.in_use
    torch.set_num_threads(1)


def in_child(forget: Callable[[], None]) -> None:
    """Have something called in every forked child, by the thread that goes on there."""
    if hasattr(os, "register_at_fork"):  # Windows has no fork.
        os.register_at_fork(after_in_child=forget)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
