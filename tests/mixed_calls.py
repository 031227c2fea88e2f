"""Calls of all kinds on one model, from threads and from an event loop, compared with the same calls in turn."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

from saliency_guard import LVLM, CancelledError, GroundedAnswer, VerifyConfig
from saliency_guard.chat.messages import chat
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.scene import render, sample_scene

KINDS = ("generate", "stream", "score", "verify", "batch", "cancelled")


@dataclass(frozen=True)
class MixedCall:
    """One call; equal numbers are equal calls."""

    number: int

    @property
    def kind(self) -> str:
        return KINDS[self.number % len(KINDS)]

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        picture = render(sample_scene(self.number % 5), 224).image
        return chat(picture, ["Is there a dog in the image?", DESCRIBE][self.number // 5 % 2])

    @property
    def options(self) -> dict[str, Any]:
        return {"max_new_tokens": 6 + self.number % 7, "temperature": self.number % 3 / 2, "seed": self.number}

    @property
    def text(self) -> str:
        return ["Yes, there is a dog in the image.", "There are two cups.", "A cat."][self.number % 3]

    def run(self, lvlm: LVLM) -> list[GroundedAnswer]:
        """Its answers; none where it is cancelled."""
        if self.kind == "generate":
            return [lvlm.generate(self.messages, **self.options)]
        if self.kind == "stream":
            *_, last = lvlm.stream(self.messages, **self.options)
            assert last.answer is not None
            return [last.answer]
        if self.kind == "score":
            return [lvlm.score(self.messages, self.text)]
        if self.kind == "verify":
            return [lvlm.score(self.messages, self.text, verify=VerifyConfig())]
        if self.kind == "batch":
            return lvlm.score_batch([(self.messages, self.text), (self.messages, "No.")])
        cancel = threading.Event()
        steps = lvlm.stream(self.messages, **{**self.options, "max_new_tokens": 100}, cancel=cancel)
        assert next(steps).token is not None
        cancel.set()
        with pytest.raises(CancelledError):
            list(steps)
        return []

    async def arun(self, lvlm: LVLM) -> list[GroundedAnswer]:
        """`run` in an event loop."""
        if self.kind == "generate":
            return [await lvlm.agenerate(self.messages, **self.options)]
        if self.kind == "stream":
            async with aclosing(lvlm.astream(self.messages, **self.options)) as steps:
                return [step.answer async for step in steps if step.answer is not None]
        if self.kind == "score":
            return [await lvlm.ascore(self.messages, self.text)]
        if self.kind == "verify":
            return [await lvlm.ascore(self.messages, self.text, verify=VerifyConfig())]
        if self.kind == "batch":
            return await lvlm.ascore_batch([(self.messages, self.text), (self.messages, "No.")])
        task = asyncio.ensure_future(lvlm.agenerate(self.messages, **{**self.options, "max_new_tokens": 100}))
        await asyncio.sleep(0.001 * (self.number % 20))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return []


def exact_model(device: str = "cpu") -> LVLM:
    """Where rounding cannot tell a batch from a row alone."""
    with pytest.warns(UserWarning, match="dtype: fitted for float32"):
        return LVLM.load(EMBEDDED_PATH, dtype=torch.float64, device=device)


def in_threads(lvlm: LVLM, calls: Sequence[MixedCall], threads: int) -> list[list[GroundedAnswer]]:
    """The answers of calls that so many threads make at the same time."""
    together = threading.Barrier(threads)

    def first(call: MixedCall) -> list[GroundedAnswer]:
        together.wait()
        return call.run(lvlm)

    with ThreadPoolExecutor(threads) as pool:
        begun = [pool.submit(first, call) for call in calls[:threads]]
        rest = [pool.submit(call.run, lvlm) for call in calls[threads:]]
        return [future.result() for future in [*begun, *rest]]


async def in_tasks(lvlm: LVLM, calls: Sequence[MixedCall]) -> list[list[GroundedAnswer]]:
    """The answers of calls that are all made at the same time in an event loop."""
    return list(await asyncio.gather(*(call.arun(lvlm) for call in calls)))


def assert_same(found: Sequence[Sequence[GroundedAnswer]], wanted: Sequence[Sequence[GroundedAnswer]]) -> None:
    """Whether answers are equal, their numbers up to float64's rounding."""
    assert [len(answers) for answers in found] == [len(answers) for answers in wanted]
    for answer, alone in zip(_flat(found), _flat(wanted), strict=True):
        assert answer.text == alone.text
        assert [token.token_id for token in answer.tokens] == [token.token_id for token in alone.tokens]
        assert _numbers(answer) == pytest.approx(_numbers(alone), rel=1e-7, abs=1e-9)


def _flat(several: Sequence[Sequence[GroundedAnswer]]) -> list[GroundedAnswer]:
    return [answer for answers in several for answer in answers]


def _numbers(answer: GroundedAnswer) -> list[float]:
    values: list[float | None] = []
    for token in answer.tokens:
        values += [token.logprob, token.saliency, *token.signals.values()]
        values += [share for _, share in sorted(token.shares.items())]
    values += [claim.verified for claim in answer.claims]
    return [-1.0 if value is None else value for value in values]


def resident_bytes(process: int | str = "self") -> int:
    """The memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
