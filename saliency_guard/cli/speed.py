"""``saliency-guard bench speed``: the cost of grounding, compared with plain ``generate``."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from saliency_guard.evaluation import machine
    from saliency_guard.evaluation.answer_cost import AnswerCost
    from saliency_guard.evaluation.concurrency import Concurrency
    from saliency_guard.evaluation.speed import Timing
    from saliency_guard.lvlm import LVLM

_FEW = ("scored while generating", "SGRS and LocoRE, 2% rejected", "SGRS and LocoRE, 10% rejected")
_PROMPT, _TOKENS, _STREAMED = 640, 64, 128
_PROMPTS, _LENGTHS = (1024, 2048, 4096), (32, 128, 256)
_SLOW_PROMPTS = (640, 1024)
_EMBEDDED_PROMPTS, _EMBEDDED_LENGTHS = (256, 512, 896), (32, 128, 256)


@dataclass(slots=True)
class _Results:
    """The results so far; written after every part, because a whole run takes long."""

    out: Path
    environment: dict[str, Any]
    floor: machine.Floor
    timings: list[Timing] = field(default_factory=list)
    embedded: list[Timing] = field(default_factory=list)
    captions: list[AnswerCost] = field(default_factory=list)
    calls: list[Concurrency] = field(default_factory=list)
    streams: list[Concurrency] = field(default_factory=list)
    candidates: dict[str, dict[int, list[float]]] = field(default_factory=dict)

    def save(self) -> None:
        write_result(
            self.out / "result.json",
            {
                "machine": self.environment,
                "floor": asdict(self.floor),
                "timings": [{**asdict(timing), "median": timing.median} for timing in self.timings],
                "embedded": [{**asdict(timing), "median": timing.median} for timing in self.embedded],
                "captions": [{**asdict(cost), "median": cost.median} for cost in self.captions],
                "concurrent calls": [asdict(way) for way in (*self.calls, *self.streams)],
                "seconds for one candidate": self.candidates,
            },
        )


def speed_command(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/speed"),
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Number of rounds; every way is timed once per round.")
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """Measure the cost of SGRS, LocoRE and scoring, relative to plain generate."""
    import torch

    from saliency_guard.evaluation import machine, speed
    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.figures import require_matplotlib
    from saliency_guard.report.plots import plot_costs

    count = rounds or (1 if quick else 5)
    with reported():
        require_matplotlib()
        check_page(page, "speed", quick=quick)
        output_folder(out)
        cuda = torch.cuda.is_available()
        model = speed.random_llava("cuda", torch.bfloat16, large=True) if cuda else speed.random_llava()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        results = _Results(out, _machine(parameters), machine.floor(model, _PROMPT))
        for _ in _measured(results, model, count, quick=quick):
            results.save()
        command = command_line("speed", {"rounds": rounds, "page": page}, quick=quick)
        section = _section(results, command)
        if page is not None:
            folder = output_folder(page.parent / page.stem)
            plot_costs(_curves(results.timings), folder / "cost.png")
            section += f"\n\n![Cost against plain generate, by length]({page.stem}/cost.png)"
            replace_section(page, "speed", section)
    print(section)


def _measured(results: _Results, model: PreTrainedModel, rounds: int, *, quick: bool) -> Iterator[None]:
    """Measure part by part, the most important first."""
    from saliency_guard.evaluation import concurrency, machine, speed
    from saliency_guard.evaluation.answer_cost import answer_costs
    from saliency_guard.evaluation.speed import PLAIN, PUBLISHED, WAYS

    tokens = 16 if quick else _TOKENS
    with progress("rounds", rounds) as done:
        inputs = speed.llava_prompt(model, _PROMPT)
        results.timings += speed.compare(model, inputs, tokens, tuple(WAYS), rounds=rounds, on_round=done)
    yield
    for prompt in _SLOW_PROMPTS[: 1 if quick else None]:
        inputs = speed.llava_prompt(model, prompt)
        for name, way in PUBLISHED.items():
            seconds = [machine.timed(way, model, inputs, 1) for _ in range(1 if quick else 3)]
            results.candidates.setdefault(name, {})[prompt] = seconds
            yield
    lvlm = load(EMBEDDED)
    names = tuple(name for name in WAYS if not name.startswith("vl-saliency"))
    scene = _scene_prompt(lvlm)
    results.embedded += speed.compare(lvlm.model, scene, tokens, names, rounds=rounds)
    yield
    results.captions += answer_costs(lvlm, tokens, rounds=rounds)
    yield
    few = {"calls": 4} if quick else {}
    results.calls += concurrency.concurrent_calls(lvlm, tokens, rounds=rounds, **few)
    yield
    streamed = tokens if quick else _STREAMED
    results.streams += concurrency.concurrent_streams(model, streamed, rounds=min(rounds, 3), **few)
    yield
    if quick:
        return
    for length in _EMBEDDED_LENGTHS:
        results.embedded += speed.compare(lvlm.model, scene, length, _FEW, rounds=rounds)
    for prompt in _EMBEDDED_PROMPTS:
        results.embedded += speed.compare(lvlm.model, _scene_prompt(lvlm, prompt), tokens, _FEW, rounds=rounds)
    yield
    plain = speed.peak_memory(PLAIN, _PROMPT, tokens)
    for index, timing in enumerate(results.timings):
        results.timings[index] = _with_memory(timing, plain)
        yield
    cells = [*((_PROMPT, length) for length in _LENGTHS), *((prompt, tokens) for prompt in _PROMPTS)]
    with progress("rounds at other lengths", len(cells) * rounds) as done:
        for prompt, length in cells:
            inputs = speed.llava_prompt(model, prompt)
            results.timings += speed.compare(model, inputs, length, _FEW, rounds=rounds, on_round=done)
            yield


def _scene_prompt(lvlm: LVLM, length: int = 0) -> Mapping[str, torch.Tensor]:
    """A scene of the picture world to describe, with filler words up to ``length`` positions."""
    import torch

    from saliency_guard.chat.messages import chat
    from saliency_guard.scenes.language import DESCRIBE
    from saliency_guard.scenes.scene import render, sample_scene

    scene = render(sample_scene(2523), 224).image
    inputs = lvlm.inputs(chat(scene, DESCRIBE))
    if length == 0:
        return inputs
    ids = inputs["input_ids"]
    filler = ids[:, -6:-5].expand(1, length - ids.shape[1])
    longer = torch.cat([ids[:, :-5], filler, ids[:, -5:]], dim=1)
    return {**inputs, "input_ids": longer, "attention_mask": torch.ones_like(longer)}


def _with_memory(timing: Timing, plain: int) -> Timing:
    from saliency_guard.evaluation import speed

    with Console(stderr=True).status(f"Peak memory: {timing.name} ..."):
        return replace(timing, memory=speed.peak_memory(timing.name, timing.prompt, timing.tokens) / plain)


def _machine(parameters: int) -> dict[str, Any]:
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return {
        "device": device,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": parameters,
    }


def _section(results: _Results, command: str) -> str:
    from saliency_guard.evaluation.evidence import table
    from saliency_guard.evaluation.speed import READING

    main, others = _parted(results.timings)
    reading = next(timing for timing in main if timing.name == READING)
    step = (main[0].median - reading.median) / main[0].tokens
    guarded = next(timing for timing in main if timing.name == "SGRS and LocoRE, 2% rejected")
    guarded_step = (guarded.median - reading.median) / guarded.tokens
    candidates: list[list[str]] = []
    for name, seconds_by_prompt in results.candidates.items():
        for prompt, seconds in seconds_by_prompt.items():
            median = statistics.median(seconds)
            cells = [f"{median:.2f}", f"{median / step:.0f}", f"{median / guarded_step:.0f}"]
            candidates.append([f"{name}, {prompt} positions", *cells])
    floor, environment = results.floor, results.environment
    parts = [
        f"```\n{command}\n```",
        (
            f"Random LLaVA of {environment['parameters'] / 1e6:.0f} M parameters, {environment['device']}, "
            f"torch {environment['torch']}, transformers {environment['transformers']}; "
            f"prompt of {main[0].prompt} positions (576 of the picture), {main[0].tokens} tokens; "
            f"median of {len(main[0].seconds)}, in turns. *Writing alone* is the ratio of what is left "
            "without reading the prompt."
        ),
        _timings_table(main),
        (
            "One candidate of the published algorithm, its row corrected, beside one token; the last column's are of "
            "SGRS and LocoRE with 2 % rejected, after a prompt of "
            f"{main[0].prompt}:"
        ),
        table(["", "seconds", "in plain tokens", "in guarded tokens"], candidates),
        (
            f"The floor of this machine: a token reads {floor.weight_bytes / 1e6:.0f} MB of weights, "
            f"{1000 * floor.token_seconds:.0f} ms by themselves (a token of plain generate "
            f"takes {1000 * step:.0f} ms, a guarded one {1000 * guarded_step:.0f} ms). "
            f"Reading {main[0].prompt} positions takes {floor.flops / 1e9:.0f} GFLOP of products with weights, "
            f"{floor.prompt_seconds:.2f} s by themselves; `loss.backward()` makes three times as many, as much "
            f"as {3 * floor.prompt_seconds / floor.token_seconds:.0f} tokens at the floor."
        ),
    ]
    parts += [_batch_sentence(main)]
    if others:
        parts += ["Other lengths:", _timings_table(others)]
    here, elsewhere = _parted(results.embedded)
    parts += [
        f"The embedded model, prompt of {here[0].prompt} positions, {here[0].tokens} tokens:",
        _timings_table(here),
        _batch_sentence(here),
        *_caption_parts(results.captions),
    ]
    if elsewhere:
        parts += ["And at other lengths:", _timings_table(elsewhere)]
    parts += _concurrency_parts(results)
    return "\n\n".join(parts)


def _caption_parts(costs: Sequence[AnswerCost]) -> list[str]:
    """What a call with the defaults costs, claims included."""
    from saliency_guard.evaluation.answer_cost import CAPTIONS
    from saliency_guard.evaluation.evidence import table

    title = (
        f"What a call costs with the defaults: {CAPTIONS} captions of different scenes by the embedded model "
        f"({costs[0].tokens} tokens together). Here claims are verified, too, each with a question of its own, which "
        "weighs more in a short answer; ratios of the batch are to the same batch without:"
    )
    rows = [
        [cost.name, f"{cost.median:.2f}", f"{1000 * cost.median / cost.tokens:.1f}", f"{cost.ratio:.2f}"]
        for cost in costs
    ]
    return [title, table(["", "seconds", "ms a token", "ratio"], rows)]


def _concurrency_parts(results: _Results) -> list[str]:
    """Concurrent calls of the embedded model, and concurrent streams of the random one."""
    from saliency_guard.evaluation.evidence import table

    head = ["", "calls", "tokens a second", "ratio to one after the other", "answers a round", "event loop held up"]
    streams = (
        "Concurrent streams of the random LLaVA, each about a picture of its own; in brackets the ratio without "
        f"reading the prompts, which takes all the cores however it is done ({results.streams[0].tokens} tokens):"
    )
    parts: list[str] = []
    for title, ways in (
        (
            "Concurrent calls of the embedded model, each a caption of a picture of its own, with grounding:",
            results.calls,
        ),
        (streams, results.streams),
    ):
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
        parts += [title, table(head, rows)]
    return parts


def _batch_sentence(timings: Sequence[Timing]) -> str:
    """A sentence on the cost of grounding for a batch, compared with the same batch without it."""
    from saliency_guard.evaluation import speed

    seconds = {timing.name: timing.seconds for timing in timings}
    pairs = zip(seconds[speed.GROUNDED_TOGETHER], seconds[speed.TOGETHER], strict=True)
    ratio = statistics.median(grounded / plain for grounded, plain in pairs)
    return f"A batch of eight with grounding takes {ratio:.2f} times as long as the same batch without."


def _parted(timings: list[Timing]) -> tuple[list[Timing], list[Timing]]:
    """The timings of the first prompt and length, and the others."""
    main = [timing for timing in timings if (timing.prompt, timing.tokens) == (timings[0].prompt, timings[0].tokens)]
    return main, timings[len(main) :]


def _timings_table(timings: Sequence[Timing]) -> str:
    from saliency_guard.evaluation.evidence import table
    from saliency_guard.evaluation.speed import READING

    several = len({(timing.prompt, timing.tokens) for timing in timings}) > 1
    memory = any(timing.memory is not None for timing in timings)
    rows = [
        [
            f"{timing.name}, prompt {timing.prompt}, {timing.tokens} tokens" if several else timing.name,
            f"{timing.median:.2f}",
            f"{1000 * timing.median / timing.tokens:.1f}",
            f"{timing.ratio:.2f}",
            "" if timing.name == READING else f"{timing.writing:.2f}",
            *(["" if timing.memory is None else f"{timing.memory:.2f}"] if memory else []),
        ]
        for timing in timings
    ]
    head = [
        "",
        "seconds",
        "ms a token",
        "ratio to plain",
        "writing alone",
        *(["peak memory to plain"] if memory else []),
    ]
    return table(head, rows)


def _curves(timings: Sequence[Timing]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Panel -> way -> (length, ratio)."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {"prompt": {}, "answer": {}}
    for timing in timings:
        if timing.name in _FEW and timing.tokens == _TOKENS:
            panels["prompt"].setdefault(timing.name, []).append((timing.prompt, timing.ratio))
        if timing.name in _FEW and timing.prompt == _PROMPT:
            panels["answer"].setdefault(timing.name, []).append((timing.tokens, timing.ratio))
    return {name: {way: sorted(points) for way, points in panel.items()} for name, panel in panels.items()}
