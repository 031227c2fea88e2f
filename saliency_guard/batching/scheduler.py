"""Who runs the model next: a lone call in its caller's own thread, concurrent calls together in one worker thread.

A call that finds nobody else works in its caller's thread, as fast as if there were no scheduler. As soon as another
call comes, both go to the worker thread, which advances all calls that somebody waits for together: a call joins
between two rounds and leaves between two rounds. They are served in the order in which they came. A stream that nobody
reads from is not advanced, but for one round ahead while others are at work.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import count
from weakref import WeakSet, ref

from saliency_guard.decoding.options import Deadline
from saliency_guard.errors import CancelledError, QueueFullError, SaliencyGuardError
from saliency_guard.models.fork_safety import ForkSafeLock, in_child

DEFAULT_BATCH_SIZE = 8
DEFAULT_QUEUE_SIZE = 1024

_IDLE = 5.0
"""Seconds without work after which the worker thread ends; the next concurrent calls start another one."""

_GLANCE = 1.0
"""Seconds after which a waiting caller looks whether its call was cancelled; the worker looks between rounds."""


class _State(Enum):
    """What the thread of a call is doing."""

    QUEUED = "waits until it may prepare its prompt"
    PREPARING = "prepares its prompt"
    WAITING = "waits for the model"
    PAUSED = "is elsewhere: nobody waits for more of a stream"


class Call(ABC):
    """A call as the scheduler sees it.

    Args:
        deadline: when it has to be over.
        cancel: set when it is to stop; None where nobody can.
        alone: whether it has to run in its caller's own thread, with nobody else.
    """

    def __init__(self, deadline: Deadline, cancel: threading.Event | None, *, alone: bool) -> None:
        self.deadline = deadline
        self.cancel = cancel
        self.alone = alone
        self.error: BaseException | None = None
        self.number = -1
        self.state = _State.PAUSED
        self.awaited: Callable[[], bool] | None = None  # What its thread waits for.
        self.joined = False
        self.changed = threading.Event()

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether there is something to give out."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether there is nothing left to work on."""

    @property
    def written(self) -> bool:
        """Whether only its end is left to work on: then it takes no place in the batch."""
        return False

    @property
    @abstractmethod
    def may_run_ahead(self) -> bool:
        """Whether it may be advanced although nobody waits for it."""

    @property
    def is_awaited(self) -> bool:
        """Whether its thread waits, and what it waits for has not come yet."""
        return self.state is _State.WAITING and self.awaited is not None and not self.awaited()

    def fail(self, error: BaseException) -> None:
        """End with an error, which is raised where the call is waited for."""
        self.error = error
        self.changed.set()

    def check(self) -> None:
        """Raise `CancelledError` or `DeadlineError` where the call was cancelled or is too late."""
        if self.cancel is not None and self.cancel.is_set():
            msg = "the call was cancelled"
            raise CancelledError(msg)
        self.deadline.check()

    def is_active(self) -> bool:
        """Whether there is work left that is still wanted."""
        if self.error is None and not self.done:
            try:
                self.check()
            except SaliencyGuardError as error:
                self.fail(error)
        return self.error is None and not self.done


Advance = Callable[[Sequence[Call]], Sequence[int]]
"""Does the next piece of work of several calls; an error of one is that call's alone (`Call.fail`).

Returns how many answers were written side by side, for each round that was made.
"""


@dataclass(frozen=True, slots=True)
class BatchingStatistics:
    """What the scheduler of a model has done so far.

    Attributes:
        rounds: rounds in which tokens were written.
        rows: answers that took part in them, added up over all rounds.
        largest: the most answers in one round.
        active: calls that are being answered or wait now.
        waiting: those of them whose prompt is not even prepared yet.
    """

    rounds: int
    rows: int
    largest: int
    active: int
    waiting: int

    @property
    def rows_per_round(self) -> float:
        """How many answers a round wrote on average: 1 where calls come one after the other."""
        return self.rows / self.rounds if self.rounds else 0.0


class _Thread(threading.local):
    """Whether this thread is in the middle of a scheduler's work."""

    inside = False


_THREAD = _Thread()


class Scheduler:
    """Serves the calls of one model.

    Args:
        advance: does the work.
        batch_size: how many calls are answered side by side; memory for keys and values grows with it.
        queue_size: how many calls may be answered or wait at one time; one more is refused.
    """

    def __init__(self, advance: Advance, batch_size: int, queue_size: int) -> None:
        self._advance = advance
        self._batch_size = batch_size
        self._queue_size = queue_size
        self._numbers = count()
        # In the order in which they came; a stream that nobody holds any more has left.
        self._places: dict[int, ref[Call]] = {}
        self._lock = ForkSafeLock("looking whose turn it is")
        self._runner: object | None = None  # The call that works in its own thread, or the worker thread.
        self._worker: threading.Thread | None = None
        self._wake = threading.Event()
        self._rounds = self._rows = self._largest = 0
        _SCHEDULERS.add(self)

    def __reduce__(self) -> tuple[type[Scheduler], tuple[Advance, int, int]]:
        """A copy serves another model."""
        return type(self), (self._advance, self._batch_size, self._queue_size)

    @property
    def _calls(self) -> list[Call]:
        # Of a copy: garbage that is collected meanwhile may be a stream that leaves.
        return [call for place in tuple(self._places.values()) if (call := place()) is not None]

    @property
    def statistics(self) -> BatchingStatistics:
        """What it has done so far."""
        with self._lock:
            active = [call for call in self._calls if call.state is not _State.PAUSED]
            waiting = sum(call.state is _State.QUEUED for call in active)
            return BatchingStatistics(self._rounds, self._rows, self._largest, len(active), waiting)

    def enter(self, call: Call) -> None:
        """Take a place in the queue, and wait until the call's prompt may be prepared.

        Whoever enters has to `leave`, whatever happens; `enter` itself does so where it fails.

        Raises:
            QueueFullError: if too many calls are there already.
            CancelledError: if the call is cancelled while it waits.
            DeadlineError: if its time passes while it waits.
        """
        if call.alone or _THREAD.inside:
            return
        try:
            with self._lock:
                self._queue(call)
            self._wait(call, lambda: call.state is not _State.QUEUED)
        except BaseException:
            self.leave(call)
            raise

    def leave(self, call: Call) -> None:
        """Leave the queue; work in progress for the call is discarded."""
        with self._lock:
            call.state = _State.PAUSED
            call.awaited = None  # It may hold the call, whose prompt and cache would wait for the garbage collector.
            self._places.pop(call.number, None)
            self._admit()
        self._yield_turn(call)

    def run(self, call: Call, until: Callable[[], bool] | None = None) -> None:
        """Work on a call, or wait while it is worked on, until there is something to give out.

        Args:
            call: this thread's.
            until: what is waited for; None is `Call.ready`.

        Raises:
            CancelledError: if the call is cancelled.
            DeadlineError: if its time passes.
            BaseException: the error of the call.
        """
        is_over = call.awaited = until or (lambda: call.ready)
        while not is_over():
            if call.error is not None:
                raise call.error
            call.check()
            if call.alone or _THREAD.inside:
                self._work_on([call])
            elif self._takes_turn(call):
                try:
                    self._work_on([call])
                finally:
                    self._yield_turn(call)
            else:
                self._wait(call, lambda: is_over() or call.error is not None)
        with self._lock:
            call.state = _State.PAUSED
            call.awaited = None
            self._admit()

    def _queue(self, call: Call) -> None:
        active = sum(other.state is not _State.PAUSED for other in self._calls)
        if active >= self._queue_size:
            msg = (
                f"{active} calls are being answered or wait for this model, and no more may: try again later, make "
                "fewer calls at a time, or load the model with a larger queue_size"
            )
            raise QueueFullError(msg)
        call.state = _State.QUEUED
        number, places = next(self._numbers), self._places
        call.number = number
        places[number] = ref(call, lambda _: places.pop(number, None))
        self._admit()

    def _admit(self) -> None:
        """Let the first of the queue prepare their prompts: so many that the batch does not wait for one."""
        calls = self._calls
        queued = [call for call in calls if call.state is _State.QUEUED]
        if queued:
            admitted = sum(call.state in {_State.PREPARING, _State.WAITING} for call in calls)
            for call in queued[: max(2 * self._batch_size - admitted, 0)]:
                call.state = _State.PREPARING
                call.changed.set()

    def _takes_turn(self, call: Call) -> bool:
        """Whether a call works in its caller's thread now; otherwise it is the worker's from here on."""
        with self._lock:
            call.state = _State.WAITING
            call.changed.clear()
            if self._runner is None and not any(other.joined for other in self._calls):
                self._runner = call
                return True
            call.joined = True
            if self._worker is None:
                self._worker = threading.Thread(target=self._serve, name="saliency-guard batch", daemon=True)
                self._worker.start()
        self._wake.set()
        return False

    def _yield_turn(self, runner: object) -> None:
        with self._lock:
            if self._runner is runner:
                self._runner = None
        self._wake.set()

    @staticmethod
    def _wait(call: Call, is_over: Callable[[], bool]) -> None:
        while not is_over():
            call.check()
            call.changed.wait(min(_GLANCE, call.deadline.left))
            call.changed.clear()

    def _work_on(self, calls: Sequence[Call]) -> None:
        with _inside():
            rounds = self._advance(calls)
        if rounds:
            with self._lock:
                self._rounds += len(rounds)
                self._rows += sum(rounds)
                self._largest = max(self._largest, *rounds)

    def _serve(self) -> None:
        """The worker thread: one piece of work after the other, as long as calls wait."""
        while True:
            was_woken = self._wake.wait(_IDLE)
            self._wake.clear()
            while self._serve_next():
                pass
            with self._lock:
                if not was_woken and not any(call.joined for call in self._calls):
                    self._worker = None
                    return

    def _serve_next(self) -> bool:
        """Do the next piece of work; False where there is none."""
        with self._lock:
            calls = [] if self._runner is not None else self._chosen()
            if not calls:
                return False
            self._runner = self._worker
        try:
            self._work_on(calls)
        except BaseException as error:  # noqa: BLE001 - raised where the calls are waited for
            for call in calls:
                call.fail(error)
        finally:
            self._yield_turn(self._worker)
        return True

    def _chosen(self) -> list[Call]:
        """The first calls that are waited for, and with them streams that may run ahead."""
        wanted = [call for call in self._calls if call.joined and call.is_active()]
        if not any(call.is_awaited for call in wanted):
            return []
        chosen, rows = [], 0
        for call in wanted:
            if (call.is_awaited or call.may_run_ahead) and (call.written or rows < self._batch_size):
                chosen.append(call)
                rows += not call.written
        return chosen

    def forget_threads(self) -> None:
        """In a forked child only the forking thread is left, with its open streams; all else is reset."""
        self._runner = self._worker = None
        self._wake = threading.Event()
        for call in self._calls:
            call.changed = threading.Event()
            if call.state is not _State.PAUSED:
                self._places.pop(call.number, None)


_SCHEDULERS: WeakSet[Scheduler] = WeakSet()


def _forget_threads() -> None:
    _THREAD.inside = False
    for scheduler in list(_SCHEDULERS):
        scheduler.forget_threads()


in_child(_forget_threads)


@contextmanager
def _inside() -> Iterator[None]:
    """Nested calls of this thread (from a caller's hook, say) are run at once."""
    outer, _THREAD.inside = _THREAD.inside, True
    try:
        yield
    finally:
        _THREAD.inside = outer
