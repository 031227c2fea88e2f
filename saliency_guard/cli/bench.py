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
from saliency_guard.cli.shared import as_json, load, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.evaluation.detection import MentionTable
    from saliency_guard.evaluation.mitigation import Guard
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
        int | None, typer.Option("--pictures", min=1, help="Pictures per split.", show_default="1500")
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
    """Measure how well each signal separates hallucinated object mentions from true ones."""
    from saliency_guard.engines.weights import weights_of
    from saliency_guard.evaluation.detection import MODES, collect
    from saliency_guard.evaluation.evidence import detection_section, replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.probe import require_scikit_learn
    from saliency_guard.evaluation.ranking import rank
    from saliency_guard.evaluation.world import pictures, title
    from saliency_guard.report.plots import plot_auroc, plot_quartiles, require_matplotlib
    from saliency_guard.scenes import tuxpaint

    options = {"model": model, "split": split, "pictures": count, "max-new-tokens": max_new_tokens, "page": page}
    count = count or (100 if quick else 1500)
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
        settings = {
            "model": lvlm.model_id,
            "weights": weights_of(model, lvlm),
            "pictures": count,
            "max_new_tokens": max_new_tokens,
            "samples": samples,
        }
        results: list[SplitResult] = []
        source: MentionTable | None = None
        for name in names:
            with progress(name, 2 * count) as done:
                mentions = collect(lvlm, pictures(name, count), max_new_tokens=max_new_tokens, on_caption=done)
            mentions.save(out / f"{name.replace(' ', '-')}.npz")
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
    ranks = [rank for rank in result.modes["greedy"].ranks if rank.kind in {"signal", "combination"}]
    return [(rank.name, rank.auroc.value, rank.auroc.low, rank.auroc.high) for rank in ranks]


@app.command()
def mitigation(
    *,
    model: Model = EMBEDDED,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/mitigation"),
    count: Annotated[
        int | None, typer.Option("--pictures", min=1, help="Pictures of the comparison.", show_default="300")
    ] = None,
    max_new_tokens: _MaxNewTokens = MAX_NEW_TOKENS,
    split: Annotated[str, typer.Option(help="The split to use.")] = _TRAINING,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """Measure how LocoRE and SGRS change captions and yes/no answers."""
    from saliency_guard.decoding.sgrs import SGRSConfig
    from saliency_guard.engines.weights import weights_of
    from saliency_guard.evaluation.evidence import mitigation_section, replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.mitigation import ALPHAS, BETAS, FLOORS, GUARDS, compare, compare_answers
    from saliency_guard.evaluation.world import pictures
    from saliency_guard.models.locore import LocoREConfig

    options = {"model": model, "split": split, "pictures": count, "max-new-tokens": max_new_tokens, "page": page}
    count = count or (8 if quick else 300)
    sweep_count, question_count = -(-count // 3), -(-count // 2)
    with reported():
        check_page(page, "mitigation", quick=quick)
        output_folder(out)
        world = list(pictures(split, count))
        lvlm = load(model)
        sweep: dict[str, Guard] = {f"SGRS, alpha {alpha}": (SGRSConfig(alpha=alpha), None) for alpha in ALPHAS}
        sweep |= {f"SGRS, min_p {floor}": (SGRSConfig(min_p=floor), None) for floor in FLOORS}
        sweep |= {f"LocoRE, beta {beta}": (None, LocoREConfig(beta=beta)) for beta in BETAS}
        with progress("captions", len(GUARDS) * 2 * count + len(sweep) * sweep_count) as done:
            greedy, baseline = compare(
                lvlm, world, GUARDS, sampled=False, max_new_tokens=max_new_tokens, on_caption=done
            )
            sampled, _ = compare(lvlm, world, GUARDS, sampled=True, max_new_tokens=max_new_tokens, on_caption=done)
            sweeps, _ = compare(
                lvlm,
                world[:sweep_count],
                sweep,
                sampled=False,
                max_new_tokens=max_new_tokens,
                baseline=baseline[:sweep_count],
                on_caption=done,
            )
        with progress("questions", len(GUARDS) * 2 * 3 * 2 * question_count) as done:
            answers = [
                result
                for mode in (False, True)
                for result in compare_answers(lvlm, world[:question_count], GUARDS, sampled=mode, on_answer=done)
            ]
        results = [*greedy, *sampled]
        settings = {
            "model": lvlm.model_id,
            "weights": weights_of(model, lvlm),
            "split": split,
            "pictures": count,
            "max_new_tokens": max_new_tokens,
        }
        write_result(
            out / "result.json",
            {
                "settings": settings,
                "guards": [asdict(result) for result in results],
                "sweeps": [asdict(result) for result in sweeps],
                "answers": [asdict(result) for result in answers],
            },
        )
        section = mitigation_section(
            results,
            sweeps,
            answers,
            command_line("mitigation", options, quick=quick),
            model=lvlm.model_id,
            split=split,
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


_DEFAULTS: Mapping[str, Any] = {"model": EMBEDDED, "max-new-tokens": MAX_NEW_TOKENS, "split": _TRAINING}


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

    replace_file(path, f"{as_json({'written': time.strftime('%Y-%m-%d'), **result})}\n".encode())
