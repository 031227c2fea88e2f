"""``saliency-guard bench``: detection and mitigation, measured on the picture world."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from saliency_guard.cli.options import MAX_NEW_TOKENS, Model
from saliency_guard.cli.shared import json_text, load, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.evaluation.ranking import SplitResult

app = typer.Typer(help="Measure on the picture world, which has known ground truth.", no_args_is_help=True)

Quick = Annotated[bool, typer.Option("--quick", help="A small sample, under two minutes.")]
Page = Annotated[Path | None, typer.Option(help="A Markdown page in which this command's section is replaced.")]
_MaxNewTokens = Annotated[int, typer.Option(min=1, help="Fixed length limit of all captions.")]
_TRAINING = "training styles"


@app.command()
def detection(
    *,
    model: Model = EMBEDDED,
    out: Annotated[Path, typer.Option(help="Folder for mentions, results and plots.")] = Path("runs/detection"),
    count: Annotated[
        int | None, typer.Option("--pictures", min=1, help="Pictures per split.", show_default="300")
    ] = None,
    max_new_tokens: _MaxNewTokens = MAX_NEW_TOKENS,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these splits.", show_default="training styles, openmoji, and tuxpaint if it is installed"
        ),
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """Measure how well each signal separates hallucinated object mentions from true ones.

    Stopped, the same command goes on with the split that it was at.
    """
    from saliency_guard.engines.weights import weights_of
    from saliency_guard.evaluation.detection import MODES, MentionTable, collect
    from saliency_guard.evaluation.evidence import detection_section, replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.probe import require_scikit_learn
    from saliency_guard.evaluation.ranking import rank
    from saliency_guard.evaluation.world import pictures, title
    from saliency_guard.figures import require_matplotlib
    from saliency_guard.report.plots import plot_auroc, plot_quartiles
    from saliency_guard.scenes import tuxpaint

    options = {"model": model, "split": split, "pictures": count, "max-new-tokens": max_new_tokens, "page": page}
    count = count or (100 if quick else 300)
    samples = 200 if quick else 1000
    with reported():
        names = split or [_TRAINING, "openmoji", *(["tuxpaint"] if tuxpaint.installed() and not quick else [])]
        # The training styles come first: the other splits are compared with them.
        names = sorted(dict.fromkeys(names), key=lambda name: name != _TRAINING)
        for name in names:  # Raises now, before the work, if a split or its drawings are missing.
            next(pictures(name, 1))
        require_scikit_learn()
        require_matplotlib()
        check_page(page, "detection", quick=quick)
        output_folder(out)
        lvlm = load(model)
        weights = weights_of(model, lvlm)
        settings = {
            "model": lvlm.model_id,
            "weights": weights,
            "pictures": count,
            "max_new_tokens": max_new_tokens,
            "samples": samples,
        }
        results: list[SplitResult] = []
        source: MentionTable | None = None
        for name in names:
            kept = out / f"{name.replace(' ', '-')}-{count}-{max_new_tokens}-{weights[:8]}.npz"
            if kept.is_file():
                mentions = MentionTable.load(kept)
            else:
                with progress(name, 2 * count) as done:
                    mentions = collect(lvlm, pictures(name, count), max_new_tokens=max_new_tokens, on_caption=done)
                mentions.save(kept)
            with Console(stderr=True).status(f"Fitting and testing on {name} ..."):
                results.append(rank(name, count, mentions, source=source, samples=samples))
            if name == _TRAINING:
                source = mentions
            write_result(out / "result.json", {"settings": settings, "splits": [asdict(result) for result in results]})
        section = detection_section(
            results, command_line("detection", options, quick=quick), model=lvlm.model_id, samples=samples
        )
        folder = output_folder(page.parent / page.stem if page is not None else out)
        plot_auroc({title(result.split): _bars(result) for result in results}, folder / "auroc.png")
        plot_quartiles(
            {
                f"{title(result.split)}, {mode}": [rate.value for rate in result.modes[mode].quartiles]
                for result in results
                for mode in MODES
            },
            folder / "quartiles.png",
        )
        if page is not None:
            plots = (
                f"![AUROC of every signal, greedy captions]({page.stem}/auroc.png)\n\n"
                f"![Hallucination rate by quartile of S]({page.stem}/quartiles.png)"
            )
            replace_section(page, "detection", f"{section}\n\n{plots}")
    print(section)


def _bars(result: SplitResult) -> Sequence[tuple[str, float, float, float]]:
    ranks = [rank for rank in result.modes["greedy"].ranks if rank.kind in {"user", "signal", "combination"}]
    return [(rank.name, rank.auroc.value, rank.auroc.low, rank.auroc.high) for rank in ranks]


@app.command()
def mitigation(
    *,
    model: Model = EMBEDDED,
    out: Annotated[Path, typer.Option(help="Folder for captions and results.")] = Path("runs/mitigation"),
    count: Annotated[
        int | None, typer.Option("--pictures", min=1, help="Pictures of the comparison.", show_default="100")
    ] = None,
    max_new_tokens: _MaxNewTokens = MAX_NEW_TOKENS,
    split: Annotated[
        list[str] | None,
        typer.Option(help="The splits; settings and questions are about the first.", show_default="both"),
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """Measure how LocoRE, SGRS and repair change captions, and LocoRE and SGRS yes/no answers.

    Interrupted, the same command resumes where it was.
    """
    from saliency_guard.engines.weights import weights_of
    from saliency_guard.evaluation.evidence import mitigation_section, replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.journal import Journal
    from saliency_guard.evaluation.mitigation import (
        GUARDS,
        GuardResult,
        compare,
        repair_guards,
        retry_guards,
        sweep_guards,
    )
    from saliency_guard.evaluation.world import pictures, title
    from saliency_guard.evaluation.world_pope import compare_answers

    options = {"model": model, "split": split, "pictures": count, "max-new-tokens": max_new_tokens, "page": page}
    count = count or (8 if quick else 100)
    sweep_count, question_count = -(-count // 3), -(-count // 2)
    first, *others = split or (_TRAINING, "openmoji")
    with reported():
        check_page(page, "mitigation", quick=quick)
        output_folder(out)
        worlds = {name: list(pictures(name, count)) for name in (first, *others)}
        lvlm = load(model)
        weights = weights_of(model, lvlm)
        settings = {"model": lvlm.model_id, "weights": weights, "max_new_tokens": max_new_tokens}
        journal = Journal(out / f"answers-{weights[:8]}.jsonl", settings)
        repaired = {**GUARDS, **repair_guards(lvlm.calibrator), **retry_guards(lvlm.calibrator)}
        captions: dict[str, list[GuardResult]] = {}
        for name, world in worlds.items():
            # In the other splits greedy captions, and each guard by itself.
            guards = repaired if name == first else {key: repaired[key] for key in repaired if "+" not in key}
            modes = (False, True) if name == first else (False,)
            with progress(f"captions, {title(name)}", len(guards) * len(modes) * count) as done:
                for mode in modes:
                    results, counts = compare(
                        lvlm,
                        world,
                        guards,
                        sampled=mode,
                        max_new_tokens=max_new_tokens,
                        journal=journal,
                        on_caption=done,
                    )
                    captions.setdefault(name, []).extend(results)
                    if name == first and not mode:
                        baseline = counts
        sweep = sweep_guards()
        with progress("settings", len(sweep) * sweep_count) as done:
            sweeps, _ = compare(
                lvlm,
                worlds[first][:sweep_count],
                sweep,
                sampled=False,
                max_new_tokens=max_new_tokens,
                baseline=baseline[:sweep_count],
                journal=journal,
                on_caption=done,
            )
        with progress("questions", len(GUARDS) * 2 * 3 * 2 * question_count) as done:
            answers = [
                result
                for mode in (False, True)
                for result in compare_answers(
                    lvlm, worlds[first][:question_count], GUARDS, sampled=mode, journal=journal, on_answer=done
                )
            ]
        write_result(
            out / "result.json",
            {
                "settings": {**settings, "pictures": count},
                "captions": {name: [asdict(result) for result in results] for name, results in captions.items()},
                "sweeps": [asdict(result) for result in sweeps],
                "answers": [asdict(result) for result in answers],
            },
        )
        section = mitigation_section(
            captions,
            sweeps,
            answers,
            command_line("mitigation", options, quick=quick),
            model=lvlm.model_id,
            pictures=(count, sweep_count, question_count),
        )
        if page is not None:
            replace_section(page, "mitigation", section)
    print(section)


def check_page(page: Path | None, section: str, *, quick: bool) -> None:
    """Refuse a page that cannot be written, before the work starts.

    Raises:
        ConfigError: for a page together with ``--quick``.
        InputError: if the page has no such section.
    """
    if page is None:
        return
    if quick:
        msg = "--quick results are too rough to publish with --page: use only one of the two options"
        raise ConfigError(msg)
    from saliency_guard.evaluation.evidence import around_section

    around_section(page, section)


_DEFAULTS: Mapping[str, Any] = {"model": EMBEDDED, "max-new-tokens": MAX_NEW_TOKENS}


def command_line(name: str, options: Mapping[str, Any], *, quick: bool) -> str:
    """The command line with these options, without those that have their default value."""
    words = ["saliency-guard", "bench", name]
    for option, value in options.items():
        if value is not None and value != _DEFAULTS.get(option):
            for item in value if isinstance(value, list) else [value]:
                words += [f"--{option}", str(item)]
    return shlex.join([*words, *(["--quick"] if quick else [])])


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, with the date."""
    from saliency_guard.storage import replace_file

    replace_file(path, f"{json_text({'written': time.strftime('%Y-%m-%d'), **result})}\n".encode())
