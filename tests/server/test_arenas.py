"""How many arenas threads that allocate at the same time get, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from saliency_guard.server import arenas as module
from saliency_guard.server.arenas import ARENAS

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")

THREADS = 12
COUNT = f"""
import ctypes, runpy, sys, tempfile, threading

limit_arenas = runpy.run_path(sys.argv[2])["limit_arenas"]  # Without the package, which would import torch.
print(limit_arenas() if sys.argv[1] == "limited" else False)
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier({THREADS})

def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""


def arenas(*, limited: bool, **variables: str) -> tuple[bool, int]:
    """Whether glibc was told, and how many arenas there were in the end."""
    unset = {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}
    environment = {**{name: value for name, value in os.environ.items() if name not in unset}, **variables}
    command = [sys.executable, "-c", COUNT, "limited" if limited else "free", module.__file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=True)  # noqa: S603
    is_limited, count = done.stdout.split()
    return is_limited == "True", int(count)


def test_threads_share_two_arenas() -> None:
    assert arenas(limited=False)[1] > ARENAS
    is_limited, count = arenas(limited=True)
    assert is_limited
    assert count <= ARENAS


@pytest.mark.parametrize(
    "setting",
    [{"MALLOC_ARENA_MAX": "5"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=5"}],
    ids=lambda each: next(iter(each)),
)
def test_the_environment_has_the_last_word(setting: dict[str, str]) -> None:
    is_limited, count = arenas(limited=True, **setting)
    assert not is_limited
    assert ARENAS < count <= 5
