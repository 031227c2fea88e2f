"""The section of docs/speed.md that ``bench speed`` writes: a table for every part that was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saliency_guard.evaluation import speed
from saliency_guard.evaluation.answer_cost import CAPTIONS
from saliency_guard.evaluation.concurrency import Concurrency
from saliency_guard.evaluation.evidence import table
from saliency_guard.evaluation.machine import median_ratio
from saliency_guard.evaluation.speed import READING, Timing
from saliency_guard.evaluation.speed_parts import FEW, PROMPT, TOKENS, SpeedTables

_GUARDED = "SGRS and LocoRE, 2% rejected"


def speed_section(tables: SpeedTables, environment: Mapping[str, Any], command: str) -> str:
    """Everything that was measured, in Markdown.

    Args:
        tables: what was measured; those of the floor and of answers are needed.
        environment: of the machine, and the sizes of the random LLaVA.
        command: what measures it again.
    """
    return "\n\n".join(_paragraphs(tables, environment, command))


def _paragraphs(tables: SpeedTables, environment: Mapping[str, Any], command: str) -> Iterator[str]:
    main = tables.answers
    memory = {row.name: row.ratio for row in tables.memory}
    yield f"```\n{command}\n```"
    yield (
        f"Random LLaVA of {environment['parameters'] / 1e6:,.0f} M parameters in {environment['dtype']}, "
        f"{environment['device']}, torch {environment['torch']}, transformers {environment['transformers']}; "
        f"prompt of {main[0].prompt} positions (576 of the picture), {main[0].tokens} tokens; "
        f"median of {len(main[0].seconds)}, in turns. *Writing alone* is the ratio of what is left "
        "without reading the prompt."
    )
    yield _timings_table(main, memory)
    yield _batch_sentence(main)
    yield from _candidate_paragraphs(tables)
    yield _floor_paragraph(tables)
    if tables.embedded:
        first = tables.embedded[0]
        yield f"The embedded model, prompt of {first.prompt} positions, {first.tokens} tokens:"
        yield _timings_table(tables.embedded)
        yield _batch_sentence(tables.embedded)
    yield from _caption_paragraphs(tables)
    if tables.calls:
        yield "Concurrent calls of the embedded model, each a caption of a picture of its own, with grounding:"
        yield _concurrency_table(tables.calls)
    if tables.streams:
        yield (
            "Concurrent streams of the random LLaVA, each about a picture of its own; in brackets the ratio without "
            "reading the prompts, which takes all of the processor however it is done "
            f"({tables.streams[0].tokens} tokens):"
        )
        yield _concurrency_table(tables.streams)
    for name, timings in (("random LLaVA", tables.lengths), ("embedded model", tables.embedded_lengths)):
        if timings:
            yield f"The {name} at other lengths:"
            yield _timings_table(timings)


def _step_seconds(timings: Sequence[Timing], name: str) -> float:
    """Seconds of a token of a way, without reading the prompt."""
    by_name = {timing.name: timing for timing in timings}
    return (by_name[name].median - by_name[READING].median) / by_name[name].tokens


def _candidate_paragraphs(tables: SpeedTables) -> Iterator[str]:
    if not tables.candidates:
        return
    steps = [_step_seconds(tables.answers, name) for name in (speed.PLAIN, _GUARDED)]
    yield (
        "One candidate of the published algorithm, its row corrected, beside one token; the last column's are of "
        f"SGRS and LocoRE with 2 % rejected, after a prompt of {tables.answers[0].prompt}:"
    )
    rows: list[list[str]] = []
    for candidate in tables.candidates:
        seconds = statistics.median(candidate.seconds)
        in_tokens = [f"{seconds / step:.0f}" for step in steps]
        rows.append([f"{candidate.name}, {candidate.prompt} positions", f"{seconds:.2f}", *in_tokens])
    yield table(["", "seconds", "in plain tokens", "in guarded tokens"], rows)


def _floor_paragraph(tables: SpeedTables) -> str:
    (floor,) = tables.floor
    plain, guarded = (1000 * _step_seconds(tables.answers, name) for name in (speed.PLAIN, _GUARDED))
    return (
        f"The floor of this machine: a token reads {floor.weight_bytes / 1e6:,.0f} MB of weights, "
        f"{1000 * floor.token_seconds:.2g} ms by themselves (a token of plain generate "
        f"takes {plain:.0f} ms, a guarded one {guarded:.0f} ms). "
        f"Reading {tables.answers[0].prompt} positions takes {floor.flops / 1e9:,.0f} GFLOP of products with weights, "
        f"{floor.prompt_seconds:.2g} s by themselves; `loss.backward()` makes three times as many, as much "
        f"as {3 * floor.prompt_seconds / floor.token_seconds:.0f} tokens at the floor."
    )


def _caption_paragraphs(tables: SpeedTables) -> Iterator[str]:
    """What a call with the defaults costs, claims included."""
    costs = tables.captions
    if not costs:
        return
    yield (
        f"What a call costs with the defaults: {CAPTIONS} captions of different scenes by the embedded model "
        f"({costs[0].tokens} tokens together). Here claims are verified, too, each with a question of its own, which "
        "weighs more in a short answer; ratios of the batch are to the same batch without:"
    )
    rows = [
        [cost.name, f"{cost.median:.2f}", f"{1000 * cost.median / cost.tokens:.1f}", f"{cost.ratio:.2f}"]
        for cost in costs
    ]
    yield table(["", "seconds", "ms a token", "ratio"], rows)


def _concurrency_table(ways: Sequence[Concurrency]) -> str:
    head = ["", "calls", "tokens a second", "ratio to one after the other", "answers a round", "event loop held up"]
    rows = [
        [
            way.name,
            str(way.calls),
            f"{way.rate:.1f}",
            f"{way.ratio:.2f}" + ("" if way.writing is None else f" ({way.writing:.2f})"),
            "" if way.rows is None else f"{way.rows:.1f}",
            "" if way.gap is None else f"{1000 * way.gap:.0f} ms",
        ]
        for way in ways
    ]
    return table(head, rows)


def _batch_sentence(timings: Sequence[Timing]) -> str:
    """A sentence on the cost of grounding for a batch, compared with the same batch without it."""
    seconds = {timing.name: timing.seconds for timing in timings}
    ratio = median_ratio(seconds[speed.GROUNDED_TOGETHER], seconds[speed.TOGETHER])
    return f"A batch of eight with grounding takes {ratio:.2f} times as long as the same batch without."


def _timings_table(timings: Sequence[Timing], memory: Mapping[str, float] | None = None) -> str:
    """A row for each way; where there are several lengths, its name has them.

    Args:
        timings: in order.
        memory: peak memory to plain ``generate``'s, by the way's name; no such column without it.
    """
    several = len({(timing.prompt, timing.tokens) for timing in timings}) > 1
    rows = [
        [
            f"{timing.name}, prompt {timing.prompt}, {timing.tokens} tokens" if several else timing.name,
            f"{timing.median:.2f}",
            f"{1000 * timing.median / timing.tokens:.1f}",
            f"{timing.ratio:.2f}",
            "" if timing.name == READING else f"{timing.writing:.2f}",
            *([f"{memory[timing.name]:.2f}"] if memory else []),
        ]
        for timing in timings
    ]
    head = ["", "seconds", "ms a token", "ratio to plain", "writing alone"]
    return table([*head, *(["peak memory to plain"] if memory else [])], rows)


def cost_curves(tables: SpeedTables) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What `plot_costs` draws: panel -> way -> (length, ratio), of all lengths of the random LLaVA."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {"prompt": {}, "answer": {}}
    for timing in (*tables.answers, *tables.lengths):
        if timing.name in FEW and timing.tokens == TOKENS:
            panels["prompt"].setdefault(timing.name, []).append((timing.prompt, timing.ratio))
        if timing.name in FEW and timing.prompt == PROMPT:
            panels["answer"].setdefault(timing.name, []).append((timing.tokens, timing.ratio))
    return {name: {way: sorted(points) for way, points in panel.items()} for name, panel in panels.items()}
