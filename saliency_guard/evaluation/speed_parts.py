"""What ``bench speed`` measures, part by part; a part that was measured in an earlier run is not measured again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedModel

from saliency_guard.errors import ConfigError
from saliency_guard.evaluation import concurrency, machine, speed
from saliency_guard.evaluation.answer_cost import AnswerCost, answer_costs
from saliency_guard.evaluation.captions import caption_chats
from saliency_guard.evaluation.concurrency import Concurrency
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.machine import Floor
from saliency_guard.evaluation.random_llava import llava_prompt
from saliency_guard.evaluation.speed import PLAIN, PUBLISHED, VL_SALIENCY, WAYS, Timing
from saliency_guard.lvlm import LVLM

FEW = ("scored while generating", "SGRS and LocoRE, 2% rejected", "SGRS and LocoRE, 10% rejected")
"""Ways that are timed at other lengths, too."""
PROMPT, TOKENS = 640, 64
_QUICK_TOKENS, _STREAMED = 16, 128
_PROMPTS, _LENGTHS = (1024, 2048, 4096), (32, 128, 256)
_SLOW_PROMPTS, _SLOW_ROUNDS = (640, 1024), 3
_EMBEDDED_PROMPTS, _EMBEDDED_LENGTHS = (256, 512, 896), (32, 128, 256)
_MOST_STREAM_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """Seconds of one candidate of the published algorithm, in every round."""

    name: str
    prompt: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Peak memory of a way, as a ratio to plain ``generate``'s."""

    name: str
    ratio: float


class SpeedTables(BaseModel):
    """Everything that was measured, a table for each part; one that was not measured is empty.

    Attributes:
        floor: the least time that the machine can take, in one row.
        answers: all ways on the random LLaVA.
        candidates: of the published algorithm.
        embedded: all ways on the embedded model.
        captions: whole calls with the defaults.
        calls: concurrent calls.
        streams: concurrent streams.
        embedded_lengths: some ways on the embedded model at other lengths.
        memory: of the ways on the random LLaVA.
        lengths: some ways on the random LLaVA at other lengths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor: tuple[Floor, ...] = ()
    answers: tuple[Timing, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    embedded: tuple[Timing, ...] = ()
    captions: tuple[AnswerCost, ...] = ()
    calls: tuple[Concurrency, ...] = ()
    streams: tuple[Concurrency, ...] = ()
    embedded_lengths: tuple[Timing, ...] = ()
    memory: tuple[PeakMemory, ...] = ()
    lengths: tuple[Timing, ...] = ()


TABLES: tuple[str, ...] = tuple(SpeedTables.model_fields)
"""Names of the tables, in the order in which they are measured: the most important first."""
_QUICK = TABLES[: TABLES.index("embedded_lengths")]


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a table, measured in one go.

    Attributes:
        table: which one.
        name: of the part, unique.
        rounds: how often its work is done.
        measure: returns the rows; to be given what is called after a round.
    """

    table: str
    name: str
    rounds: int
    measure: Callable[[Callable[[], None]], Sequence[Any]]


def speed_parts(
    model: PreTrainedModel, lvlm: LVLM, *, rounds: int, quick: bool = False, tables: Sequence[str] = ()
) -> list[Part]:
    """All parts, in the order in which they are to be measured.

    Args:
        model: a random LLaVA.
        lvlm: the embedded model with its calibration.
        rounds: how often every way is timed.
        quick: shorter answers, fewer calls, and nothing at other lengths.
        tables: only the parts of these, and ``floor`` and ``answers``, which others are compared with.

    Raises:
        ConfigError: if there is no such table.
    """
    for name in tables:
        if name not in TABLES:
            msg = f"there is no part {name!r}: choose from {', '.join(TABLES)}"
            raise ConfigError(msg)
    llava = _Target(model, partial(llava_prompt, model), rounds)
    embedded = _Target(lvlm.model, partial(scene_prompt, lvlm), rounds)
    wanted = {"floor", "answers", *tables} if tables else set(_QUICK if quick else TABLES)
    tokens = _QUICK_TOKENS if quick else TOKENS
    parts = [
        Part("floor", "floor", 1, lambda _: [machine.floor(model, PROMPT)]),
        llava.part("answers", PROMPT, tokens, tuple(WAYS)),
        *_candidates(model, _SLOW_PROMPTS[: 1 if quick else None], 1 if quick else _SLOW_ROUNDS),
        embedded.part("embedded", 0, tokens, tuple(name for name in WAYS if name != VL_SALIENCY)),
        *_calls(model, lvlm, tokens, rounds, quick=quick),
        *(embedded.part("embedded_lengths", 0, length, FEW) for length in _EMBEDDED_LENGTHS),
        *(embedded.part("embedded_lengths", prompt, tokens, FEW) for prompt in _EMBEDDED_PROMPTS),
        Part("memory", "memory", 1, lambda _: _memory(model, tokens)),
        *(llava.part("lengths", PROMPT, length, FEW) for length in _LENGTHS),
        *(llava.part("lengths", prompt, tokens, FEW) for prompt in _PROMPTS),
    ]
    return [part for part in parts if part.table in wanted]


def measure(parts: Iterable[Part], journal: Journal, on_round: Callable[[], None] = lambda: None) -> SpeedTables:
    """Measure the parts that the journal does not have, and write each into it.

    Args:
        parts: in their order.
        journal: of this run, or of the run that is to go on.
        on_round: called after every round.
    """
    rows: dict[str, list[Any]] = {name: [] for name in TABLES}
    for part in parts:
        if part.name not in journal.results:
            measured = SpeedTables(**{part.table: part.measure(on_round)})
            journal.add(part.name, measured.model_dump_json(include={part.table}))
        rows[part.table] += json.loads(journal.results[part.name])[part.table]
    return SpeedTables.model_validate(rows)


@dataclass(frozen=True, slots=True)
class _Target:
    """A model whose ways of writing are compared, and its prompt of a length."""

    model: PreTrainedModel
    prompt: Callable[[int], Mapping[str, torch.Tensor]]
    rounds: int

    def part(self, table: str, prompt: int, tokens: int, names: Sequence[str]) -> Part:
        """Some ways at one length of prompt and answer."""

        def compared(on_round: Callable[[], None]) -> Sequence[Timing]:
            inputs = self.prompt(prompt)
            return speed.compare(self.model, inputs, tokens, names, rounds=self.rounds, on_round=on_round)

        return Part(table, f"{table}, prompt {prompt}, {tokens} tokens", self.rounds, compared)


def _candidates(model: PreTrainedModel, prompts: Sequence[int], rounds: int) -> Iterator[Part]:
    """A candidate of the published algorithm: a whole answer would take too long."""

    def timed(name: str, prompt: int, on_round: Callable[[], None]) -> Sequence[Candidate]:
        work = partial(PUBLISHED[name], model, llava_prompt(model, prompt), 1)
        seconds: list[float] = []
        for _ in range(rounds):
            seconds.append(machine.timed(work, model.device))
            on_round()
        return [Candidate(name, prompt, tuple(seconds))]

    for prompt in prompts:
        for name in PUBLISHED:
            yield Part("candidates", f"{name}, prompt {prompt}", rounds, partial(timed, name, prompt))


def _calls(model: PreTrainedModel, lvlm: LVLM, tokens: int, rounds: int, *, quick: bool) -> Iterator[Part]:
    """Whole calls, and concurrent calls and streams."""
    few = {"calls": 4} if quick else {}
    streamed, stream_rounds = (tokens if quick else _STREAMED), min(rounds, _MOST_STREAM_ROUNDS)
    yield Part("captions", "captions", rounds, lambda done: answer_costs(lvlm, tokens, rounds=rounds, on_round=done))
    yield Part(
        "calls",
        "concurrent calls",
        rounds,
        lambda done: concurrency.concurrent_calls(lvlm, tokens, rounds=rounds, on_round=done, **few),
    )
    yield Part(
        "streams",
        "concurrent streams",
        stream_rounds,
        lambda done: concurrency.concurrent_streams(model, streamed, rounds=stream_rounds, on_round=done, **few),
    )


def _memory(model: PreTrainedModel, tokens: int) -> Sequence[PeakMemory]:
    """Peak memory: of a GPU here, on the CPU in a process for each way."""
    on_gpu = model.device.type == "cuda"
    taken = {
        name: speed.gpu_memory(model, name, PROMPT, tokens) if on_gpu else speed.peak_memory(name, PROMPT, tokens)
        for name in speed.installed(tuple(WAYS))
    }
    return [PeakMemory(name, peak / taken[PLAIN]) for name, peak in taken.items()]


def scene_prompt(lvlm: LVLM, length: int = 0) -> Mapping[str, torch.Tensor]:
    """A scene of the picture world to describe, with filler words up to ``length`` positions."""
    inputs = lvlm.inputs(caption_chats(1)[0])
    if length == 0:
        return inputs
    ids = inputs["input_ids"]
    filler = ids[:, -6:-5].expand(1, length - ids.shape[1])
    longer = torch.cat([ids[:, :-5], filler, ids[:, -5:]], dim=1)
    return {**inputs, "input_ids": longer, "attention_mask": torch.ones_like(longer)}
