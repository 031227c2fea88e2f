"""32 threads, and 200 tasks of an event loop, with calls of all kinds on one model."""

from __future__ import annotations

import pytest
from mixed_calls import MixedCall, assert_same, exact_model, in_tasks, in_threads

from saliency_guard import LVLM

THREADS = 32
TASKS = 200


@pytest.fixture(scope="module")
def lvlm() -> LVLM:
    return exact_model()


@pytest.fixture(scope="module")
def calls() -> list[MixedCall]:
    return [MixedCall(number) for number in range(TASKS)]


@pytest.fixture(scope="module")
def alone(lvlm: LVLM, calls: list[MixedCall]) -> list:
    """Every call by itself, one after the other."""
    return [call.run(lvlm) for call in calls]


def test_threads(lvlm: LVLM, calls: list[MixedCall], alone: list) -> None:
    assert_same(in_threads(lvlm, calls, THREADS), alone)
    assert lvlm.batching.largest > 1
    assert lvlm.batching.active == 0


async def test_tasks(lvlm: LVLM, calls: list[MixedCall], alone: list) -> None:
    assert_same(await in_tasks(lvlm, calls), alone)
    assert lvlm.batching.active == 0
