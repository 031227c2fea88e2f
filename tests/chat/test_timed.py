from __future__ import annotations

import time

import pytest

from saliency_guard.chat.timed import in_time, seconds_left


def test_a_call_is_waited_for_until_its_time_is_over() -> None:
    assert in_time(lambda: 7, time.monotonic() + 5) == 7
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, time.monotonic() + 5)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        in_time(lambda: time.sleep(3), began + 0.2)
    assert time.monotonic() - began < 2
    with pytest.raises(TimeoutError):
        seconds_left(began)
