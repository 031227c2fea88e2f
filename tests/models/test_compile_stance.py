"""Compiled models are run as they are written, and torch's switch for that is put back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import tiny
import torch

from saliency_guard.models.compile_stance import uncompiled


def stance() -> object:
    return torch._dynamo.eval_frame._stance


@pytest.fixture
def compiled(llava: tiny.Case) -> tiny.Case:
    llava.model.get_decoder().compile(backend="eager", dynamic=True)
    return llava


def test_the_stance_is_put_back_when_threads_overlap(compiled: tiny.Case) -> None:
    before = stance()
    first_left, second_entered = Barrier(2, timeout=30), Barrier(2, timeout=30)
    seen: dict[str, object] = {}

    def first() -> None:
        with uncompiled(compiled.model):
            second_entered.wait()
        first_left.wait()

    def second() -> None:
        with uncompiled(compiled.model):
            second_entered.wait()
            first_left.wait()
            seen["after the first"] = stance()

    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(first), pool.submit(second)]:
            job.result()
    assert seen["after the first"].stance == "force_eager"
    assert stance() == before


def test_an_error_puts_it_back(compiled: tiny.Case) -> None:
    before = stance()
    with pytest.raises(KeyError), uncompiled(compiled.model):
        raise KeyError
    assert stance() == before


def test_a_model_that_is_not_compiled_does_not_touch_it(llava: tiny.Case) -> None:
    before = stance()
    with uncompiled(llava.model):
        assert stance() is before
