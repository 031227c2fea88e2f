"""A forked child works, or says at once that it cannot; it never waits for what is gone."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading

import pytest

from saliency_guard.models.fork_safety import ForkSafeLock, interruptible, uninterrupted

# One process for all: the script runs once.
pytestmark = pytest.mark.xdist_group("fork")

SCRIPT = """
import faulthandler, multiprocessing, os, sys, threading, time, traceback
import torch
torch.set_num_threads(2)
from PIL import Image
from saliency_guard import LVLM, ModelError
from saliency_guard.chat.messages import chat
from saliency_guard.models import fork_safety

def ask(colour):
    return chat(Image.new("RGB", (200, 200), colour), "Describe the image.")

def child(work):
    "Exit code of a forked child: 0, 3 if it says that it was forked at the wrong time, 1 if it hangs."
    begun = time.monotonic()
    process = os.fork()
    if not process:
        faulthandler.dump_traceback_later(60, exit=True)
        try:
            work()
        except ModelError as error:
            print(error)
            os._exit(3)
        except BaseException as error:
            print(repr(error))
            os._exit(4)
        os._exit(0)
    waited = time.monotonic() - begun
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), waited

lvlm = LVLM.load()

def everything():
    lvlm.generate(ask("red"), max_new_tokens=3)
    lvlm.score(ask("red"), "A dog and a cat.")
    lvlm.generate_batch([ask("blue"), ask("green")], max_new_tokens=2)

def one_thread():
    everything()
    before = torch.get_num_threads()
    code, waited = child(lambda: (everything(), print(before, torch.get_num_threads())))
    assert code == 0 and torch.get_num_threads() == before

def other_threads_run_the_model():
    ended = threading.Event()

    def work(number):
        while not ended.is_set():
            if number % 2:
                lvlm.generate(ask("blue"), max_new_tokens=12)
            else:
                lvlm.score(ask("white"), "Two cups on a table.")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    codes, waits = zip(*[child(everything) for _ in range(6)])
    print(codes, max(waits) < fork_safety.PATIENCE)
    ended.set()
    for thread in threads:
        thread.join()

def caught_half_way():
    patience, fork_safety.PATIENCE = fork_safety.PATIENCE, 0.5
    inside, go_on = threading.Event(), threading.Event()

    def wait(*_):
        inside.set()
        go_on.wait()

    handle = lvlm.model.get_decoder().layers[-1].register_forward_pre_hook(wait)
    thread = threading.Thread(target=lvlm.generate, args=(ask("red"),), kwargs={"max_new_tokens": 3})
    thread.start()
    inside.wait()
    code, waited = child(lambda: lvlm.score(ask("red"), "A dog."))
    go_on.set()
    thread.join()
    handle.remove()
    fork_safety.PATIENCE = patience
    assert 0.4 < waited < 5, waited
    lvlm.generate(ask("red"), max_new_tokens=3)
    assert child(everything)[0] == 0
    print(code)

def forked_in_the_middle_of_a_pass():
    codes = []

    def fork(*_):
        if not codes:
            codes.append(None)
            codes.append(child(lambda: lvlm.score(ask("red"), "A dog.")))

    handle = lvlm.model.get_decoder().layers[-1].register_forward_pre_hook(fork)
    lvlm.generate(ask("red"), max_new_tokens=3)
    handle.remove()
    print(codes[1][0])

def a_processor_waits():
    codes = []

    def process(ids, scores):
        if not codes:
            thread = threading.Thread(target=lambda: codes.append(child(everything)))
            thread.start()
            thread.join()
        return scores

    lvlm.generate(ask("red"), max_new_tokens=3, logits_processor=process)
    (code, waited), = codes
    print(code, waited < fork_safety.PATIENCE)

def text(colour):
    return lvlm.generate(ask(colour), max_new_tokens=5).text

def a_pool():
    expected = [text(colour) for colour in ("red", "blue", "green")]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(text, ["red", "blue", "green"]).get(120) == expected
        try:
            pool.apply_async(lvlm.score, (ask("red"), "dog " * 5000)).get(60)
        except ModelError as error:
            print(error)

def a_gpu():
    torch.cuda.is_initialized = lambda: True
    fork_safety.require_device(torch.device("cuda"))
    code, _ = child(lambda: fork_safety.require_device(torch.device("cuda")))
    assert child(lambda: fork_safety.require_device(torch.device("cpu")))[0] == 0
    print(code)

# The last one leaves behind what it pretends.
for scenario in (one_thread, other_threads_run_the_model, caught_half_way, forked_in_the_middle_of_a_pass,
                 a_processor_waits, a_pool, a_gpu):
    print(f"== {scenario.__name__}")
    try:
        scenario()
    except BaseException:
        traceback.print_exc(file=sys.stdout)
"""


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What each scenario of the script prints: an exception, if that ends it; a child that hangs ends by itself."""
    command = [sys.executable, "-u", "-W", "ignore::DeprecationWarning", "-c", SCRIPT]
    quiet = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # Threads that spin keep others from a busy machine.
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=quiet)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    parts = (part.partition("\n") for part in done.stdout.split("== ")[1:])
    return {name: said.strip() for name, _, said in parts}


def test_a_child_runs_the_model_with_one_thread_where_the_parent_had_several(printed: dict[str, str]) -> None:
    """OpenMP's pool of the thread that forked is gone: it would be waited for for ever."""
    assert printed["one_thread"] == "2 1"


def test_forking_while_other_threads_run_the_model(printed: dict[str, str]) -> None:
    assert printed["other_threads_run_the_model"] == "(0, 0, 0, 0, 0, 0) True"


def test_a_model_that_is_caught_half_way_is_an_error_in_the_child_and_none_in_the_parent(
    printed: dict[str, str],
) -> None:
    message, code = printed["caught_half_way"].split("\n")
    assert code == "3"
    assert "forked while a thread was" in message
    assert "spawn" in message


def test_a_thread_that_forks_in_the_middle_of_a_pass_leaves_an_error_in_the_child(printed: dict[str, str]) -> None:
    message, code = printed["forked_in_the_middle_of_a_pass"].split("\n")
    assert code == "3"
    assert "forked while a thread was running a model" in message


def test_a_logits_processor_may_wait_for_a_thread_that_forks(printed: dict[str, str]) -> None:
    assert printed["a_processor_waits"] == "0 True"


def test_a_pool_of_forked_workers(printed: dict[str, str]) -> None:
    (message,) = printed["a_pool"].split("\n")
    assert "cannot be pickled" in message
    assert "LVLM.load" in message


def test_a_gpu_that_was_in_use_stays_behind(printed: dict[str, str]) -> None:
    message, code = printed["a_gpu"].split("\n")
    assert code == "3"
    assert "spawn" in message


def test_a_lock_keeps_other_threads_out_and_lets_its_own_in_again() -> None:
    lock = ForkSafeLock("testing")
    seen: list[bool] = []
    with lock, lock:
        thread = threading.Thread(target=lambda: seen.append(lock.take(0.05)))
        thread.start()
        thread.join()
        assert lock.mine
    assert seen == [False]
    assert not lock.mine
    assert lock.take(0)
    lock.release()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda lock: pickle.loads(pickle.dumps(lock))])  # noqa: S301
def test_a_copy_of_a_lock_is_free(again: object) -> None:
    lock = ForkSafeLock("testing")
    with lock:
        other = again(lock)  # type: ignore[operator]
        assert other is not lock
        assert not other.mine


def test_uninterrupted_work_of_two_threads_does_not_wait_for_each_other() -> None:
    with uninterrupted(), uninterrupted():

        def work() -> None:
            with uninterrupted(), interruptible():
                pass

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(timeout=20)
        assert not thread.is_alive()
        with interruptible():
            pass
