"""``saliency-guard bench``: the claims, measured on the picture world."""

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
from saliency_guard.cli.shared import as_json, load, progress, reported, weights_of
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.evaluation.detection import MentionTable
    from saliency_guard.evaluation.mitigation import Guard
    from saliency_guard.evaluation.ranking import SplitResult

app = typer.Typer(help="Measure on the picture world, whose truth is known.", no_args_is_help=True)

Quick = Annotated[bool, typer.Option("--quick", help="A small sample, under two minutes.")]
Page = Annotated[Path | None, typer.Option(help="A Markdown page whose section of this command's name is rewritten.")]
_MaxNewTokens = Annotated[int, typer.Option(min=1, help="Fixed length limit of all captions.")]
_TRAINING = "training styles"


@app.command()
def detection(
    *,
    model: Model = EMBEDDED,
    out: Annotated[Path, typer.Option(help="Where mentions, results and plots go.")] = Path("runs/detection"),
    count: Annotated[
        int | None, typer.Option("--pictures", min=1, help="Pictures of each split.", show_default="1500")
    ] = None,
    max_new_tokens: _MaxNewTokens = MAX_NEW_TOKENS,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these splits.", show_default="training styles, openmoji, and tuxpaint where it is installed"
        ),
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """How well each signal tells hallucinated object mentions from true ones."""
    from saliency_guard.evaluation.detection import MODES, collect
    from saliency_guard.evaluation.evidence import detection_section, replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.probe import require_scikit_learn
    from saliency_guard.evaluation.ranking import rank
    from saliency_guard.evaluation.world import pictures, title
    from saliency_guard.report.plots import plot_auroc, plot_quartiles, require_matplotlib
    from saliency_guard.scenes import tuxpaint

    asked = {"model": model, "split": split, "pictures": count, "max-new-tokens": max_new_tokens, "page": page}
    count = count or (100 if quick else 1500)
    samples = 200 if quick else 1000
    with reported():
        names = split or [_TRAINING, "openmoji", *(["tuxpaint"] if tuxpaint.installed() and not quick else [])]
        names = sorted(dict.fromkeys(names), key=lambda name: name != _TRAINING)  # The others are compared with it.
        for name in names:  # What is missing is said before the work, not after it.
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
            results, command_line("detection", asked, quick=quick), model=lvlm.model_id, samples=samples
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
                f"![Hallucination rate by quarter of S]({page.stem}/quartiles.png)"
            )
            replace_section(page, "detection", f"{section}\n\n{plots}")
    print(section)


def _bars(result: SplitResult) -> Sequence[tuple[str, float, float, float]]:
    ranks = [one for one in result.modes["greedy"].ranks if one.kind in {"signal", "combination"}]
    return [(one.name, one.auroc.value, one.auroc.low, one.auroc.high) for one in ranks]


@app.command()
def mitigation(
    *,
    model: Model = EMBEDDED,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("runs/mitigation"),
    count: Annotated[
        int | None, typer.Option("--pictures", min=1, help="Pictures of the comparison.", show_default="300")
    ] = None,
    max_new_tokens: _MaxNewTokens = MAX_NEW_TOKENS,
    split: Annotated[str, typer.Option(help="Which split.")] = _TRAINING,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """What LocoRE and SGRS change about captions and yes/no answers."""
    from saliency_guard.decoding.sgrs import SGRSConfig
    from saliency_guard.evaluation.evidence import mitigation_section, replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.mitigation import ALPHAS, BETAS, FLOORS, GUARDS, compare, compare_answers
    from saliency_guard.evaluation.world import pictures
    from saliency_guard.models.locore import LocoREConfig

    asked = {"model": model, "split": split, "pictures": count, "max-new-tokens": max_new_tokens, "page": page}
    count = count or (8 if quick else 300)
    swept, questioned = -(-count // 3), -(-count // 2)
    with reported():
        check_page(page, "mitigation", quick=quick)
        output_folder(out)
        shown = list(pictures(split, count))
        lvlm = load(model)
        sweep: dict[str, Guard] = {f"SGRS, alpha {alpha}": (SGRSConfig(alpha=alpha), None) for alpha in ALPHAS}
        sweep |= {f"SGRS, min_p {floor}": (SGRSConfig(min_p=floor), None) for floor in FLOORS}
        sweep |= {f"LocoRE, beta {beta}": (None, LocoREConfig(beta=beta)) for beta in BETAS}
        with progress("captions", len(GUARDS) * 2 * count + len(sweep) * swept) as done:
            greedy, baseline = compare(
                lvlm, shown, GUARDS, sampled=False, max_new_tokens=max_new_tokens, on_caption=done
            )
            sampled, _ = compare(lvlm, shown, GUARDS, sampled=True, max_new_tokens=max_new_tokens, on_caption=done)
            sweeps, _ = compare(
                lvlm,
                shown[:swept],
                sweep,
                sampled=False,
                max_new_tokens=max_new_tokens,
                baseline=baseline[:swept],
                on_caption=done,
            )
        with progress("questions", len(GUARDS) * 2 * 3 * 2 * questioned) as done:
            answers = [
                result
                for mode in (False, True)
                for result in compare_answers(lvlm, shown[:questioned], GUARDS, sampled=mode, on_answer=done)
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
                "guards": [asdict(one) for one in results],
                "sweeps": [asdict(one) for one in sweeps],
                "answers": [asdict(one) for one in answers],
            },
        )
        section = mitigation_section(
            results,
            sweeps,
            answers,
            command_line("mitigation", asked, quick=quick),
            model=lvlm.model_id,
            split=split,
            pictures=(count, swept, questioned),
        )
        if page is not None:
            replace_section(page, "mitigation", section)
    print(section)


def check_page(page: Path | None, section: str, *, quick: bool) -> None:
    """Refuse a page that cannot be written before the work, not after it."""
    if page is None:
        return
    if quick:
        msg = "--quick is a look, --page is for keeping: use one of them"
        raise ConfigError(msg)
    from saliency_guard.evaluation.evidence import around_section

    around_section(page, section)  # Raises where the page has no such section.


_DEFAULTS: Mapping[str, Any] = {"model": EMBEDDED, "max-new-tokens": MAX_NEW_TOKENS, "split": _TRAINING}


def command_line(name: str, asked: Mapping[str, Any], *, quick: bool) -> str:
    """The command line that was given, without what is the default anyway."""
    words = ["saliency-guard", "bench", name]
    for option, value in asked.items():
        if value is not None and value != _DEFAULTS.get(option):
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{option}", str(one)]
    return shlex.join([*words, *(["--quick"] if quick else [])])


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, with its date."""
    from saliency_guard.storage import replace_file

    replace_file(path, f"{as_json({'written': time.strftime('%Y-%m-%d'), **result})}\n".encode())
