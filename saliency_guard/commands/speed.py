"""``saliency-guard bench speed``: what grounding costs, beside plain ``generate``."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.console import Console

from saliency_guard.commands.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.commands.shared import load, progress, reported
from saliency_guard.evaluation import speed
from saliency_guard.evaluation.evidence import replace_section, table
from saliency_guard.evaluation.files import output_folder
from saliency_guard.evaluation.speed import PLAIN, PUBLISHED, READING, WAYS, Timing
from saliency_guard.lvlm import EMBEDDED
from saliency_guard.messages import chat
from saliency_guard.report.plots import plot_costs, require_matplotlib
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.scene import render, sample_scene

_FEW = ("scored while generating", "SGRS and LocoRE, 2% rejected", "SGRS and LocoRE, 10% rejected")
_PROMPT, _TOKENS = 640, 64
_PROMPTS, _LENGTHS = (1024, 2048, 4096), (32, 256)


def speed_command(
    *,
    out: Annotated[Path, typer.Option(help="Where the result goes.")] = Path("runs/speed"),
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, in each of which all take their turn.")] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """What SGRS, LocoRE and scoring cost, as ratios to plain generate."""
    count = rounds or (1 if quick else 5)
    with reported():
        require_matplotlib()
        check_page(page, "speed", quick=quick)
        output_folder(out)
        cuda = torch.cuda.is_available()
        model = speed.random_llava("cuda", torch.bfloat16, large=True) if cuda else speed.random_llava()
        tokens = 16 if quick else _TOKENS
        inputs = speed.llava_prompt(model, _PROMPT)
        with progress("rounds", count) as done:
            timings = speed.compare(model, inputs, tokens, tuple(WAYS), rounds=count, on_round=done)
        slow = {
            name: [speed.timed(way, model, inputs, 1) for _ in range(1 if quick else 3)]
            for name, way in PUBLISHED.items()
        }
        embedded = list(_embedded(count, quick=quick))
        if not quick:
            plain = speed.peak_memory(PLAIN, _PROMPT, tokens)
            timings = [_with_memory(one, plain) for one in timings]
            cells = [*((prompt, _TOKENS) for prompt in _PROMPTS), *((_PROMPT, length) for length in _LENGTHS)]
            with progress("rounds at other lengths", len(cells) * count) as done:
                for prompt, length in cells:
                    inputs = speed.llava_prompt(model, prompt)
                    timings += speed.compare(model, inputs, length, _FEW, rounds=count, on_round=done)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        machine = _machine(parameters)
        result = {
            "machine": machine,
            "timings": [{**asdict(one), "median": one.median} for one in timings],
            "embedded": [{**asdict(one), "median": one.median} for one in embedded],
            "seconds for one candidate": slow,
        }
        write_result(out / "result.json", result)
        command = command_line("speed", {"rounds": rounds, "page": page}, quick=quick)
        section = _section(timings, embedded, slow, command, machine)
        if page is not None:
            folder = output_folder(page.parent / page.stem)
            plot_costs(_curves(timings), folder / "cost.png")
            section += f"\n\n![Cost against plain generate, by length]({page.stem}/cost.png)"
            replace_section(page, "speed", section)
    print(section)


def _embedded(rounds: int, *, quick: bool) -> Iterator[Timing]:
    """The embedded model on a picture, 64 tokens."""
    lvlm = load(EMBEDDED)
    inputs = lvlm.inputs(chat(render(sample_scene(2523), 224).image, DESCRIBE))
    names = [name for name in WAYS if not name.startswith("vl-saliency")]
    yield from speed.compare(lvlm.model, inputs, 16 if quick else 64, names, rounds=rounds)


def _with_memory(timing: Timing, plain: int) -> Timing:
    with Console(stderr=True).status(f"Peak memory: {timing.name} ..."):
        return replace(timing, memory=speed.peak_memory(timing.name, timing.prompt, timing.tokens) / plain)


def _machine(parameters: int) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return {
        "device": device,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": parameters,
    }


def _section(
    timings: Sequence[Timing],
    embedded: Sequence[Timing],
    slow: Mapping[str, Sequence[float]],
    command: str,
    machine: dict[str, Any],
) -> str:
    main = [one for one in timings if (one.prompt, one.tokens) == (timings[0].prompt, timings[0].tokens)]
    rows = [
        [
            one.name,
            f"{one.median:.2f}",
            f"{1000 * one.median / one.tokens:.0f}",
            f"{one.ratio:.2f}",
            "" if one.name == READING else f"{one.writing:.2f}",
            "" if one.memory is None else f"{one.memory:.2f}",
        ]
        for one in main
    ]
    reading = next(one for one in main if one.name == READING)
    step = (main[0].median - reading.median) / main[0].tokens
    for name, seconds in slow.items():
        each = statistics.median(seconds)
        rows.append([f"{name}, one candidate", f"{each:.2f}", f"{1000 * each:.0f}", "", f"{each / step:.0f}", ""])
    lengths = [
        [
            f"{one.name}, prompt {one.prompt}, {one.tokens} tokens",
            f"{one.median:.2f}",
            f"{one.ratio:.2f}",
            "" if one.name == READING else f"{one.writing:.2f}",
        ]
        for one in timings
        if one not in main
    ]
    parts = [
        f"```\n{command}\n```",
        (
            f"Random LLaVA of {machine['parameters'] / 1e6:.0f} M parameters, {machine['device']}, "
            f"torch {machine['torch']}, transformers {machine['transformers']}; prompt of {main[0].prompt} positions "
            f"(576 of the picture), {main[0].tokens} tokens; median of {len(main[0].seconds)}, in turns. "
            "*Writing alone* "
            "is the ratio of what is left without reading the prompt."
        ),
        table(["", "seconds", "ms a token", "ratio to plain", "writing alone", "peak memory to plain"], rows),
    ]
    if lengths:
        parts += ["Other lengths:", table(["", "seconds", "ratio to plain", "writing alone"], lengths)]
    parts += [
        "The embedded model:",
        table(
            ["", "ms a token", "ratio to plain"],
            [[one.name, f"{1000 * one.median / one.tokens:.1f}", f"{one.ratio:.2f}"] for one in embedded],
        ),
    ]
    return "\n\n".join(parts)


def _curves(timings: Sequence[Timing]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Panel -> way -> (length, ratio)."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {"prompt": {}, "answer": {}}
    for one in timings:
        if one.name in _FEW and one.tokens == _TOKENS:
            panels["prompt"].setdefault(one.name, []).append((one.prompt, one.ratio))
        if one.name in _FEW and one.prompt == _PROMPT:
            panels["answer"].setdefault(one.name, []).append((one.tokens, one.ratio))
    return {name: {way: sorted(points) for way, points in panel.items()} for name, panel in panels.items()}
