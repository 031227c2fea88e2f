"""``saliency-guard bench calibration``: what the model's calibration and the policies on it are worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.options import Calibration, Model
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

PICTURES = 100
_SEVERAL = 24


def calibration_command(
    *,
    model: Model = EMBEDDED,
    calibrator: Calibration = None,
    out: Annotated[Path, typer.Option(help="Where records and results go; records there are used again.")] = Path(
        "runs/calibration"
    ),
    count: Annotated[
        int | None, typer.Option("--pictures", min=8, help="Pictures of each source.", show_default=str(PICTURES))
    ] = None,
    several: Annotated[
        int | None,
        typer.Option(min=0, help="Prompts with two, three and four pictures each.", show_default=str(_SEVERAL)),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Only these sources.", show_default="all that are installed")
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """How well the calibrated grounding tells right from wrong and comes true, and whether guarantees hold.

    Interrupted, the same command resumes where it was.
    """
    from saliency_guard.evaluation.calibration_page import calibration_section, source_result
    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.evidence_records import WORLD, EvidenceRun, evidence_records, evidence_sources
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.world import title
    from saliency_guard.figures import require_matplotlib
    from saliency_guard.report.plots import plot_coverage, plot_reliability

    options = {
        "model": model,
        "calibrator": calibrator,
        "pictures": count,
        "several": several,
        "source": source,
        "page": page,
    }
    groups = several if several is not None else 0 if quick else _SEVERAL
    run = EvidenceRun(scenes=count or (16 if quick else PICTURES), several=groups)
    samples, splits = (100, 50) if quick else (1000, 500)
    with reported():
        require_matplotlib()
        check_page(page, "calibration", quick=quick)
        known = evidence_sources()
        unknown = sorted(set(source or ()) - set(known))
        if unknown:
            msg = f"--source {unknown[0]!r}: there are: {', '.join(known)}"
            raise ConfigError(msg)
        output_folder(out)
        lvlm = load(model, calibrator)  # Refuses one that does not fit before the work.
        judge = lvlm.calibrator
        if judge is None:
            msg = f"{model} has no calibration: fit one with `saliency-guard calibrate`, and name it with --calibrator"
            raise ConfigError(msg)
        results = []
        for name in source or known:
            with progress(f"answers, {title(name)}", run.answers(name)) as done:
                records = evidence_records(lvlm, name, run, out, on_answer=done)
            retried = name in WORLD
            results.append(source_result(name, records, judge, samples=samples, splits=splits, retried=retried))
            measured: list[dict[str, Any]] = [
                {
                    "source": result.source,
                    "rows": [row.as_dict() for row in result.rows],
                    "auroc": [[asdict(each) for each in part] for part in (result.own, result.given)],
                    "coverage": result.coverage,
                    "validity": [asdict(each) for each in result.validities],
                }
                for result in results
            ]
            write_result(out / "result.json", {"pictures": run.scenes, "several": run.several, "sources": measured})
        folder = output_folder(page.parent / page.stem if page is not None else out)
        curves = {title(each.source): each.curves for each in results if each.curves}
        if curves:
            plot_coverage(curves, folder / "coverage.png")
        if judge.report is not None:
            plot_reliability(judge.report, folder / "reliability.png")
        command = command_line("calibration", options, quick=quick)
        section = calibration_section(results, judge, command, model=lvlm.model_id)
        if page is not None:
            plots = (
                f"![Risk against coverage]({page.stem}/coverage.png)\n\n"
                f"![Reliability on held-out pictures]({page.stem}/reliability.png)"
            )
            replace_section(page, "calibration", f"{section}\n\n{plots}")
    print(section)
