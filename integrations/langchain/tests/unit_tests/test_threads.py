"""Many callers at once, and calls that end early."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from langchain_core.messages import AIMessage
from message_checks import same

from langchain_saliency_guard import SaliencyGuardedLVLM
from langchain_saliency_guard._messages import to_core
from saliency_guard import (
    LVLM,
    GuardPolicy,
)


def test_six_callers_at_once_get_the_answers_of_one(model: SaliencyGuardedLVLM, ask: Any) -> None:
    questions = ["Describe the image in detail.", "Is there a cat in the image?", "What do you see?"] * 2
    serial = [model.invoke([ask(question)]) for question in questions]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda question: model.invoke([ask(question)]), questions))
    assert all(same(*pair) for pair in zip(answers, serial, strict=True))

    async def together() -> list[AIMessage]:
        return await asyncio.gather(*(model.ainvoke([ask(question)]) for question in questions))

    assert all(same(*pair) for pair in zip(asyncio.run(together()), serial, strict=True))


async def test_fifty_cancelled_streams_leave_nothing_running(
    model: SaliencyGuardedLVLM, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.invoke([ask()])
    written = 0
    original = LVLM.stream

    def counted(self: LVLM, messages: Any, **settings: Any) -> Any:
        nonlocal written
        for step in original(self, messages, **settings):
            written += 1
            yield step

    monkeypatch.setattr(LVLM, "stream", counted)

    async def cut_short(tokens: int) -> None:
        count = 0
        async for _ in model.astream([ask()]):
            count += 1
            if count > tokens:
                break

    async def cancelled(after: float) -> None:
        task = asyncio.ensure_future(model.ainvoke([ask()]))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for index in range(20):
        await cut_short(index % 5)
    await asyncio.gather(*(cancelled(0.001 * index) for index in range(20)))
    for index in range(10):
        stream: Any = model.stream([ask()])
        for _ in range(index % 4):
            next(stream)
        stream.close()
    gc.collect()
    until_now = written
    assert until_now < 50 * before.usage_metadata["output_tokens"]
    await asyncio.sleep(0.3)
    assert written == until_now
    assert torch.is_grad_enabled()
    assert same(model.invoke([ask()]), before)


def test_grad_mode_does_not_leak_into_threads(model: SaliencyGuardedLVLM, ask: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        stream: Any = model.stream([ask()])
        pool.submit(next, stream).result()
        assert pool.submit(torch.is_grad_enabled).result()
        stream.close()


async def test_policies_run_side_by_side_in_threads(ask: Any) -> None:
    strict = SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0, max_retries=2), seed=1)
    answers = await asyncio.gather(*(strict.ainvoke([ask()]) for _ in range(4)))
    assert all(same(answer, answers[0]) for answer in answers)
    assert len(answers[0].response_metadata["grounding"]["attempts"]) == 3


def test_a_policy_s_stream_may_change_threads(ask: Any) -> None:
    strict = GuardPolicy(min_grounding=1.0, max_retries=2)
    steps = strict.steps(SaliencyGuardedLVLM().engine(), to_core([ask()]), seed=1, max_new_tokens=5)
    found = []
    for _ in range(4):
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(next, steps).result())
    assert len(found) == 4
