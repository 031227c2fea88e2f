"""Who runs next: lone calls in their own thread, concurrent ones together, in the order in which they came."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from scheduled_calls import Callers, Counting, Work, served

from saliency_guard import CancelledError, DeadlineError, QueueFullError
from saliency_guard.batching import scheduler as module
from saliency_guard.batching.scheduler import Call, Scheduler


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def scheduler(work: Work) -> Scheduler:
    return Scheduler(work, 4, 16)


def test_a_lone_call_works_in_its_own_thread(scheduler: Scheduler, work: Work) -> None:
    served(scheduler, Counting(3))
    assert work.threads == [threading.current_thread().name] * 3
    statistics = scheduler.statistics
    assert (statistics.rounds, statistics.rows, statistics.largest, statistics.active) == (3, 3, 1, 0)


def test_calls_join_between_two_rounds_in_one_thread(scheduler: Scheduler, work: Work) -> None:
    callers = Callers(scheduler, work)
    calls = [Counting(3), Counting(2), Counting(4)]
    for call in calls:
        callers.call(call)
    assert scheduler.statistics.active == 3
    callers.finish()
    assert callers.errors == []
    assert work.rounds[0] == calls[:1]  # Alone, in its own thread; then all of them in the worker's.
    assert calls in work.rounds
    assert set(work.threads[1:]) == {"saliency-guard batch"}
    assert sum(map(len, work.rounds)) == 9  # Who is done takes no further part.
    assert scheduler.statistics.rows_per_round > 1


def test_when_all_have_left_the_next_works_in_its_own_thread_again(scheduler: Scheduler, work: Work) -> None:
    callers = Callers(scheduler, work)
    for _ in range(2):
        callers.call(Counting(2))
    callers.finish()
    served(scheduler, Counting(1))
    assert work.threads[-1] == threading.current_thread().name


def test_first_come_first_served(work: Work) -> None:
    scheduler = Scheduler(work, 2, 16)
    callers = Callers(scheduler, work)
    calls = [Counting(3) for _ in range(7)]
    for call in calls:
        callers.call(call)
    assert scheduler.statistics.waiting == 3  # Four may prepare their prompts.
    callers.finish()
    assert max(map(len, work.rounds)) == 2
    first = [next(number for number, row in enumerate(work.rounds) if call in row) for call in calls]
    assert first[:4] == sorted(first[:4])
    assert all(first[earlier] < first[later] for earlier, later in ((0, 4), (1, 5), (2, 6)))
    assert scheduler.statistics.active == 0


def test_a_call_of_which_only_the_end_is_left_takes_no_place(work: Work) -> None:
    scheduler = Scheduler(work, 2, 16)
    callers = Callers(scheduler, work)
    calls = [Counting(2, ends=True) for _ in range(4)]
    for call in calls:
        callers.call(call)
    callers.finish()
    assert callers.errors == []
    first, second, third, fourth = calls
    assert work.rounds == [[first], [first, second, third], [second, third, fourth], [fourth]]


def test_a_full_queue_refuses_and_says_so(work: Work) -> None:
    scheduler = Scheduler(work, 2, 3)
    callers = Callers(scheduler, work)
    for _ in range(3):
        callers.call(Counting(1))
    with pytest.raises(QueueFullError, match=r"3 calls are being answered or wait .* queue_size"):
        scheduler.enter(Counting(1))
    callers.finish()
    served(scheduler, Counting(1))


def test_who_is_cancelled_leaves_and_the_others_go_on(scheduler: Scheduler, work: Work) -> None:
    callers = Callers(scheduler, work)
    cancel = threading.Event()
    calls = [Counting(2), Counting(10**9, cancel=cancel), Counting(5)]
    for call in calls:
        callers.call(call)
    work.during = lambda: cancel.set() if len(work.rounds) == 3 else None
    callers.finish()
    assert [type(error) for error in callers.errors] == [CancelledError]
    assert sum(calls[1] in row for row in work.rounds) == 2
    assert all(call.done for call in (calls[0], calls[2]))


def test_a_call_that_waits_for_its_turn_can_be_cancelled_and_has_a_deadline(work: Work) -> None:
    scheduler = Scheduler(work, 1, 16)
    callers = Callers(scheduler, work)
    for _ in range(2):
        callers.call(Counting(1))
    cancel = threading.Event()
    cancel.set()
    for waiting, error in ((Counting(1, cancel=cancel), CancelledError), (Counting(1, timeout=0.05), DeadlineError)):
        with pytest.raises(error):
            scheduler.enter(waiting)
    late = Counting(1, timeout=0.05)
    callers.finish()
    scheduler.enter(late)
    time.sleep(0.06)
    with pytest.raises(DeadlineError):
        scheduler.run(late)
    scheduler.leave(late)
    assert scheduler.statistics.active == 0


def test_an_error_is_the_call_s_own(scheduler: Scheduler, work: Work) -> None:
    callers = Callers(scheduler, work)
    calls = [Counting(2), Counting(-1), Counting(2)]
    for call in calls:
        callers.call(call)
    callers.finish()
    assert [str(error) for error in callers.errors] == ["cannot be counted"]
    assert calls[0].done
    assert calls[2].done


def test_what_goes_wrong_for_all_is_raised_by_all(scheduler: Scheduler, work: Work) -> None:
    callers = Callers(scheduler, work)
    for _ in range(3):
        callers.call(Counting(2))

    def fail() -> None:
        if threading.current_thread().name == "saliency-guard batch":
            raise SystemExit

    work.during = fail
    callers.finish()
    assert [type(error) for error in callers.errors] == [SystemExit] * 3
    assert scheduler.statistics.active == 0
    work.during = lambda: None
    served(scheduler, Counting(1))


def test_an_interrupted_caller_leaves_the_model_to_the_others(scheduler: Scheduler, work: Work) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    work.during = interrupt
    with pytest.raises(KeyboardInterrupt):
        served(scheduler, Counting(2))
    work.during = lambda: None
    served(scheduler, Counting(2))
    assert scheduler.statistics.active == 0


def test_a_stream_that_nobody_reads_is_one_round_ahead_at_most(scheduler: Scheduler, work: Work) -> None:
    stream = Counting(50, streams=True)
    scheduler.enter(stream)
    scheduler.run(stream)
    assert stream.made == 1
    callers = Callers(scheduler, work)
    callers.call(Counting(2))
    reader = threading.Thread(target=scheduler.run, args=(stream, lambda: stream.made >= 2))
    reader.start()
    while not stream.joined:
        time.sleep(0.001)
    callers.finish()
    reader.join(30)
    stream.taken = made = stream.made
    served(scheduler, Counting(20))
    assert stream.made - made == 2
    scheduler.leave(stream)
    assert scheduler.statistics.active == 0


def test_a_stream_that_nobody_holds_any_more_has_left(scheduler: Scheduler, work: Work) -> None:
    stream = Counting(50, streams=True)
    stream.joined = True
    scheduler.enter(stream)
    scheduler.run(stream)
    assert set(work.threads) == {"saliency-guard batch"}
    work.rounds.clear()
    del stream
    gc.collect()
    served(scheduler, Counting(1))
    assert work.threads[-1] == threading.current_thread().name


def test_a_call_from_the_middle_of_the_work_is_worked_on_at_once(scheduler: Scheduler, work: Work) -> None:
    inner = Counting(2)

    def call() -> None:
        work.during = lambda: None
        served(scheduler, inner)

    callers = Callers(scheduler, work)
    for _ in range(2):
        callers.call(Counting(2))
    work.during = call
    callers.finish()
    assert callers.errors == []
    assert inner.done


def test_a_call_that_has_to_be_alone_works_beside_the_others(scheduler: Scheduler, work: Work) -> None:
    lonely = Counting(2, alone=True)
    callers = Callers(scheduler, work)
    for _ in range(2):
        callers.call(Counting(1))
    work.go_on.set()
    served(scheduler, lonely)
    callers.finish()
    assert lonely.done
    assert all(len(row) == 1 for row in work.rounds if lonely in row)


def test_the_worker_ends_when_there_is_nothing_to_do(
    scheduler: Scheduler, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDLE", 0.01)
    others = set(threading.enumerate())
    for _ in range(2):
        callers = Callers(scheduler, work)
        for _ in range(2):
            callers.call(Counting(2))
        callers.finish()
        until = time.monotonic() + 30
        while any(thread.name == "saliency-guard batch" for thread in set(threading.enumerate()) - others):
            assert time.monotonic() < until
            time.sleep(0.01)


def nothing(_: Sequence[Call]) -> list[int]:
    return []


def test_a_copy_is_another_scheduler_of_the_same_size() -> None:
    scheduler = Scheduler(nothing, 2, 1)
    scheduler.enter(there := Counting(1))
    other = copy.deepcopy(scheduler)
    assert other.statistics.active == 0
    other.enter(waiting := Counting(1))
    with pytest.raises(QueueFullError):
        other.enter(Counting(1))
    other.leave(waiting)
    scheduler.leave(there)


FORK = """
import faulthandler, os, sys
sys.path.insert(0, sys.argv[1])
from scheduled_calls import Callers, Counting, Work, served
from saliency_guard.batching import scheduler as module
from saliency_guard.batching.scheduler import Scheduler

module._IDLE = 0.05
work = Work()
scheduler = Scheduler(work, 4, 4)
stream = Counting(50, streams=True)
stream.joined = True
scheduler.enter(stream)
scheduler.run(stream)  # In the worker thread, which does not come along.
callers = Callers(scheduler, work)
for _ in range(2):
    callers.call(Counting(2))
process = os.fork()
if not process:
    faulthandler.dump_traceback_later(60, exit=True)
    work.go_on.set()
    stream.taken = stream.made
    assert scheduler.statistics.active == 0  # The other threads and their calls are not here.
    scheduler.run(stream)
    served(scheduler, Counting(3))
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
callers.finish()
print(callers.errors, stream.made)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_has_its_own_worker_and_only_its_own_streams() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (0, "0\n[] 2\n"), done.stderr
