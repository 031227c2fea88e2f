"""Concurrent calls of one model timed beside the same calls as one batch, and one after the other."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat.layout import prompt_layout
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.evaluation.captions import caption_chats
from saliency_guard.evaluation.random_llava import llava_prompt
from saliency_guard.lvlm import LVLM
from saliency_guard.models.session import Session

SERIAL = "one after the other"
BATCH = "as one batch (`generate_batch`)"
CONCURRENT = "concurrent calls (`agenerate`)"
MANY_CONCURRENT = "concurrent calls of fifty (`agenerate`)"
STREAMS_SERIAL = "streams, one after the other"
STREAMS = "concurrent streams (`stream` in threads)"

CALLS, MANY_CALLS, STREAM_CALLS = 20, 50, 8
_BEAT = 0.01
_SHORTEST_PROMPT = 640


@dataclass(frozen=True, slots=True)
class Concurrency:
    """One way of answering several calls.

    Attributes:
        name: of the way.
        calls: how many.
        tokens: of all answers together, in one round.
        seconds: of every round.
        ratio: median over the rounds of its tokens a second to those of the same calls one after the other.
        writing: the same without the time that reading the prompts takes; None where that was not measured.
        rows: answers that one round of tokens wrote on average; None where nothing is counted.
        gap: the longest time, in seconds, that the event loop was kept from other work; None where there is none.
    """

    name: str
    calls: int
    tokens: int
    seconds: tuple[float, ...]
    ratio: float
    writing: float | None = None
    rows: float | None = None
    gap: float | None = None

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / statistics.median(self.seconds)


async def loop_gap(work: Coroutine[Any, Any, Any]) -> tuple[Any, float]:
    """What a coroutine returns, and the longest time that it kept the event loop from a timer, in seconds."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_BEAT)
            longest = max(longest, time.perf_counter() - before - _BEAT)

    timer = asyncio.ensure_future(beat())
    try:
        return await work, longest
    finally:
        timer.cancel()


@dataclass(slots=True)
class _Timed:
    """The rounds of one way."""

    seconds: list[float]
    gaps: list[float]
    tokens: int = 0
    rounds: int = 0
    rows: int = 0

    def run(self, lvlm: LVLM, way: Callable[[], tuple[Sequence[GroundedAnswer], float | None]]) -> None:
        gc.collect()
        before = lvlm.batching
        start = time.perf_counter()
        answers, gap = way()
        self.seconds.append(time.perf_counter() - start)
        after = lvlm.batching
        self.rounds += after.rounds - before.rounds
        self.rows += after.rows - before.rows
        self.tokens = sum(len(answer.tokens) for answer in answers)
        self.gaps += [] if gap is None else [gap]

    def result(self, name: str, calls: int, serial: _Timed, reading: Sequence[float] | None = None) -> Concurrency:
        """What the rounds come to.

        Args:
            name: of the way.
            calls: how many there were in a round.
            serial: calls one after the other.
            reading: seconds of reading the prompts alone, in every round.
        """
        return Concurrency(
            name=name,
            calls=calls,
            tokens=self.tokens,
            seconds=tuple(self.seconds),
            ratio=self._ratio(serial, [0.0] * len(self.seconds)),
            writing=None if reading is None else self._ratio(serial, reading),
            rows=self.rows / self.rounds if self.rounds else None,
            gap=max(self.gaps, default=None),
        )

    def _ratio(self, serial: _Timed, without: Sequence[float]) -> float:
        rounds = zip(self.seconds, serial.seconds, without, strict=True)
        return statistics.median(
            (self.tokens / (seconds - left_out)) / (serial.tokens / (alone - left_out))
            for seconds, alone, left_out in rounds
        )


def concurrent_calls(
    lvlm: LVLM, tokens: int, *, rounds: int, calls: int = CALLS, on_round: Callable[[], None] = lambda: None
) -> list[Concurrency]:
    """Time captions of scenes of the picture world: one after the other, as a batch, and as concurrent calls.

    Args:
        lvlm: what writes.
        tokens: the most of each answer.
        rounds: how often.
        calls: how many captions; the row of fifty is left out where there are fewer than usual.
        on_round: called after each.
    """
    chats = caption_chats(max(calls, MANY_CALLS if calls == CALLS else 0))
    few = chats[:calls]

    def together(prompts: Sequence[Messages]) -> tuple[Sequence[GroundedAnswer], float]:
        async def work() -> tuple[Sequence[GroundedAnswer], float]:
            return await loop_gap(_gathered(lvlm, prompts, tokens))

        return asyncio.run(work())

    ways: dict[str, Callable[[], tuple[Sequence[GroundedAnswer], float | None]]] = {
        SERIAL: lambda: ([lvlm.generate(messages, max_new_tokens=tokens) for messages in few], None),
        BATCH: lambda: (lvlm.generate_batch(few, max_new_tokens=tokens), None),
        CONCURRENT: partial(together, few),
    }
    if len(chats) > calls:
        ways[MANY_CONCURRENT] = partial(together, chats)
    timed = {name: _Timed([], []) for name in ways}
    lvlm.generate_batch(few[:2], max_new_tokens=8)  # Warm-up: kernels are chosen, buffers made.
    for _ in range(rounds):
        for name, way in ways.items():
            timed[name].run(lvlm, way)
        on_round()
    counts = {name: len(chats) if name == MANY_CONCURRENT else calls for name in ways}
    return [timed[name].result(name, counts[name], timed[SERIAL]) for name in ways]


async def _gathered(lvlm: LVLM, prompts: Sequence[Messages], tokens: int) -> list[GroundedAnswer]:
    return await asyncio.gather(*(lvlm.agenerate(messages, max_new_tokens=tokens) for messages in prompts))


def concurrent_streams(
    model: PreTrainedModel,
    tokens: int,
    *,
    rounds: int,
    calls: int = STREAM_CALLS,
    on_round: Callable[[], None] = lambda: None,
) -> list[Concurrency]:
    """Time streams of a random LLaVA, each about a picture of its own: one after the other, and at the same time.

    Args:
        model: from `random_llava`.
        tokens: of each answer.
        rounds: how often.
        calls: how many streams.
        on_round: called after each.
    """
    lvlm = _wordy(model)
    inputs = [llava_prompt(model, _SHORTEST_PROMPT + number) for number in range(calls)]
    prompts = [PreparedPrompt(prompt, prompt_layout(model.config, prompt)) for prompt in inputs]

    def streamed(prompt: PreparedPrompt) -> GroundedAnswer:
        *_, last = lvlm.stream(prompt, max_new_tokens=tokens)
        assert last.answer is not None  # noqa: S101 - a stream ends with it
        return last.answer

    def together() -> tuple[Sequence[GroundedAnswer], None]:
        with ThreadPoolExecutor(calls) as pool:
            return list(pool.map(streamed, prompts)), None

    serial, concurrent = _Timed([], []), _Timed([], [])
    reading: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        for prompt in inputs:
            Session(model, prompt)
        reading.append(time.perf_counter() - start)
        serial.run(lvlm, lambda: (list(map(streamed, prompts)), None))
        concurrent.run(lvlm, together)
        on_round()
    return [
        serial.result(STREAMS_SERIAL, calls, serial, reading),
        concurrent.result(STREAMS, calls, serial, reading),
    ]


def _wordy(model: PreTrainedModel) -> LVLM:
    """An LVLM around a model of random weights, whose every token is a word and none ends an answer."""
    vocabulary = {f"word{number}": number for number in range(model.config.get_text_config().vocab_size)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="word0")))  # noqa: S106 - a word
    if model.generation_config is not None:
        model.generation_config.eos_token_id = None
    return LVLM(model, SimpleNamespace(tokenizer=tokenizer), model_id="random LLaVA", prompt_cache=0)
