"""Few arenas of glibc's malloc: each keeps what the largest pass of the model in one of its threads took.

By default there may be eight for every core. A server's requests are answered in changing threads, so that in time
passes were made in all arenas, and they give little of that back: nothing leaks, and yet memory grows for hours.
"""

from __future__ import annotations

import ctypes
import os
import platform

ARENAS = 2
_M_ARENA_MAX = -8  # As in malloc.h.


def limit_arenas() -> bool:
    """Have the threads of this process share two arenas, unless the environment sets their number.

    Call it when a process starts: with more than eight arenas already there, it changes nothing.

    Returns:
        Whether the limit was set; other C libraries than glibc have no arenas.
    """
    is_set = "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if is_set or platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
