"""Small versions of tests/soak: calls of all kinds at once, many cancelled ones, and one that is out of memory."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from mixed_calls import KINDS, MixedCall, assert_same, exact_model, in_tasks, in_threads, resident_bytes
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat

THREADS = 6
CALLS = 12


@pytest.fixture(scope="module")
def exact() -> LVLM:
    return exact_model()


async def test_calls_of_all_kinds_are_what_they_are_alone(exact: LVLM) -> None:
    calls = [MixedCall(number) for number in range(CALLS)]
    alone = [call.run(exact) for call in calls]
    assert_same(in_threads(exact, calls, THREADS), alone)
    assert_same(await in_tasks(exact, calls), alone)
    assert exact.batching.largest > 1
    assert exact.batching.active == 0


def test_cancelled_calls_leave_nothing_behind(lvlm: LVLM) -> None:
    calls = [MixedCall(number) for number in range(6 * 8) if KINDS[number % len(KINDS)] == "cancelled"]
    for call in calls:
        call.run(lvlm)
    gc.collect()
    before = resident_bytes()
    for call in calls:
        call.run(lvlm)
    gc.collect()
    assert resident_bytes() < 1.05 * before
    assert lvlm.batching.active == 0


@contextmanager
def greedy(lvlm: LVLM) -> Iterator[None]:
    """A model that asks for more memory than there is wherever a picture of one colour is among those it looks at."""

    def allocate(_: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        pixels = options.get("pixel_values", arguments[0] if arguments else None)
        if any(float(picture.std()) < 1e-6 for picture in pixels):
            torch.empty(1 << 60, dtype=torch.uint8)

    handle = lvlm.model.model.vision_tower.register_forward_pre_hook(allocate, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


async def test_out_of_memory_is_one_requests_trouble(lvlm: LVLM) -> None:

    calls = [MixedCall(number) for number in (0, 1, 2, 3, 6)]
    white = chat(Image.new("RGB", (224, 224), "white"), "What is there?")
    with greedy(lvlm):
        results = await asyncio.gather(
            lvlm.agenerate(white, max_new_tokens=4),
            *(call.arun(lvlm) for call in calls),
            lvlm.ascore(white, "Nothing."),
            return_exceptions=True,
        )
    for failed in (results[0], results[-1]):
        assert isinstance(failed, RuntimeError)
        assert "memory" in str(failed)
    assert all(isinstance(result, list) and len(result) == 1 for result in results[1:-1])
    assert lvlm.generate(white, max_new_tokens=4).text
    assert lvlm.batching.active == 0
