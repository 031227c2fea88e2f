"""``saliency-guard bench speed``: the cost of grounding, compared with plain ``generate``."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def speed_command(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/speed"),
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Number of rounds; every way is timed once per round.")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these parts, as they are named in result.json (floor and answers are always measured).",
            show_default="all",
        ),
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """Measure the cost of SGRS, LocoRE and scoring, relative to plain generate; on a GPU if there is one.

    Interrupted, the same command resumes with the part that it was at. On a page, a GPU's results have a section of
    their own ("speed on a GPU").
    """
    import torch

    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.journal import Journal
    from saliency_guard.evaluation.random_llava import random_llava, random_llava_7b
    from saliency_guard.evaluation.speed_page import cost_curves, speed_section
    from saliency_guard.evaluation.speed_parts import measure, speed_parts
    from saliency_guard.figures import require_matplotlib
    from saliency_guard.report.plots import plot_costs

    on_gpu = torch.cuda.is_available()
    section_name = "speed on a GPU" if on_gpu else "speed"
    count = rounds or (1 if quick else 5)
    with reported():
        require_matplotlib()
        check_page(page, section_name, quick=quick)
        output_folder(out)
        model = random_llava_7b() if on_gpu else random_llava()
        parts = speed_parts(model, load(EMBEDDED), rounds=count, quick=quick, tables=part or ())
        environment = _environment(model)
        interrupted = out / "parts.jsonl"
        journal = Journal(interrupted, {**environment, "rounds": count, "quick": quick})
        with progress("rounds", sum(each.rounds for each in parts if each.name not in journal.results)) as done:
            tables = measure(parts, journal, done)
        write_result(out / "result.json", {"machine": environment, **tables.model_dump(mode="json")})
        section = speed_section(
            tables, environment, command_line("speed", {"rounds": rounds, "part": part, "page": page}, quick=quick)
        )
        if page is not None:
            if tables.lengths:
                picture = "cost-gpu.png" if on_gpu else "cost.png"
                plot_costs(cost_curves(tables), output_folder(page.parent / page.stem) / picture)
                section += f"\n\n![Cost against plain generate, by length]({page.stem}/{picture})"
            replace_section(page, section_name, section)
        interrupted.unlink()  # A run that has ended is not resumed: the next measures everything anew.
    print(section)


def _environment(model: PreTrainedModel) -> dict[str, Any]:
    """What timings depend on, beside the code."""
    import torch
    import transformers

    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
    }
