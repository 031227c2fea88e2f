"""Calls that only count, and threads that make them: what `Scheduler` is tested with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from saliency_guard.batching.scheduler import Call, Scheduler
from saliency_guard.decoding.options import Deadline


class Counting(Call):
    """A call of so many pieces of work; a stream gives out each of them. The last may be its end."""

    def __init__(
        self,
        pieces: int,
        *,
        streams: bool = False,
        timeout: float | None = None,
        cancel: threading.Event | None = None,
        alone: bool = False,
        ends: bool = False,
    ) -> None:
        super().__init__(Deadline(timeout), cancel, alone=alone)
        self.left = pieces
        self.streams = streams
        self.made = 0
        self.taken = 0
        self.ends = ends

    @property
    def written(self) -> bool:
        return self.ends and self.left == 1

    @property
    def ready(self) -> bool:
        return self.made > self.taken if self.streams else self.done

    @property
    def done(self) -> bool:
        return self.left == 0

    @property
    def may_run_ahead(self) -> bool:
        return self.streams and self.made - self.taken <= 1


class Work:
    """Makes pieces of calls, and remembers who made which with whom."""

    def __init__(self) -> None:
        self.rounds: list[list[Call]] = []
        self.threads: list[str] = []
        self.first = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.during: Callable[[], None] = lambda: None

    def __call__(self, calls: Sequence[Call]) -> list[int]:
        self.rounds.append(list(calls))
        self.threads.append(threading.current_thread().name)
        self.first.set()
        assert self.go_on.wait(30)
        self.during()
        for call in calls:
            assert isinstance(call, Counting)
            if call.left < 0:
                call.fail(ValueError("cannot be counted"))
                continue
            call.left -= 1
            call.made += 1
            call.changed.set()
        return [len(calls)]


def served(scheduler: Scheduler, call: Call, errors: list[BaseException] | None = None) -> None:
    """What a caller does, from the beginning to the end."""
    try:
        scheduler.enter(call)
        try:
            scheduler.run(call)
        finally:
            scheduler.leave(call)
    except BaseException as error:
        if errors is None:
            raise
        errors.append(error)


class Callers:
    """Calls in threads of their own, the first of which is held up until all are there."""

    def __init__(self, scheduler: Scheduler, work: Work) -> None:
        self.scheduler, self.work = scheduler, work
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        work.first.clear()
        work.go_on.clear()

    def call(self, call: Call) -> None:
        """Begin a call, and wait until it works, waits for the model, or waits for its turn."""
        thread = threading.Thread(target=served, args=(self.scheduler, call, self.errors))
        waiting = self.scheduler.statistics.waiting
        is_first = not self.threads
        self.threads.append(thread)
        thread.start()
        if is_first:
            assert self.work.first.wait(30)
        while not (is_first or call.joined or self.scheduler.statistics.waiting > waiting):
            assert thread.is_alive()
            time.sleep(0.001)

    def finish(self) -> None:
        self.work.go_on.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
