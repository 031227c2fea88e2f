"""Concurrent calls beside a batch and beside calls one after the other: the same answers, counted and timed."""

from __future__ import annotations

import asyncio
import time

from saliency_guard import LVLM
from saliency_guard.evaluation.concurrency import (
    BATCH,
    CONCURRENT,
    SERIAL,
    STREAMS,
    STREAMS_SERIAL,
    concurrent_calls,
    concurrent_streams,
    loop_gap,
)
from saliency_guard.evaluation.random_llava import random_llava


def test_who_blocks_the_event_loop_is_found_out() -> None:
    async def rude() -> str:
        await asyncio.sleep(0.01)
        time.sleep(0.05)
        await asyncio.sleep(0.01)
        return "done"

    result, gap = asyncio.run(loop_gap(rude()))
    assert result == "done"
    assert gap > 0.04


def test_concurrent_calls_write_what_the_others_write(lvlm: LVLM) -> None:
    serial, batch, concurrent = concurrent_calls(lvlm, 6, rounds=1, calls=3)
    assert [serial.name, batch.name, concurrent.name] == [SERIAL, BATCH, CONCURRENT]
    assert serial.tokens == batch.tokens == concurrent.tokens > 0
    assert (serial.ratio, serial.rows, serial.gap) == (1.0, 1.0, None)
    assert batch.rows is None
    assert concurrent.rows is not None
    assert concurrent.gap is not None
    assert serial.rate > 0


def test_concurrent_streams_write_as_many_tokens() -> None:
    serial, concurrent = concurrent_streams(random_llava(layers=1), 4, rounds=1, calls=2)
    assert [serial.name, concurrent.name] == [STREAMS_SERIAL, STREAMS]
    assert serial.tokens == concurrent.tokens == 8
    assert (serial.ratio, serial.writing) == (1.0, 1.0)
    assert concurrent.writing is not None
