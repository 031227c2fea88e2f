"""``saliency-guard bench calibration``: what the model's calibration and the policies on it are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.options import Calibration, Model
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.features import Floats
    from saliency_guard.calibration.guarantee import Keep
    from saliency_guard.calibration.records import Records
    from saliency_guard.calibration.reliability import Bools, Reliability
    from saliency_guard.evaluation.guarding import Comparison, Validity
    from saliency_guard.lvlm import LVLM

_SPLITS = ("training styles", "openmoji")
_RISKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
_ABOUT = (0.5, 2.5)
_DRAWS = 3
_SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2)
_POLICIES: Mapping[str, tuple[int, Keep]] = {
    "no retries": (1, "first"),
    "up to 2 retries": (_DRAWS, "first"),
    "best of 3": (_DRAWS, "best"),
}

_Curve = list[tuple[float, float, float]]


def calibration_command(
    *,
    model: Model = EMBEDDED,
    calibrator: Calibration = None,
    out: Annotated[Path, typer.Option(help="Where records and results go; records there are used again.")] = Path(
        "runs/calibration"
    ),
    count: Annotated[
        int | None, typer.Option("--pictures", min=8, help="Pictures of each split.", show_default="500")
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """How well the calibrated grounding tells right from wrong and comes true, and whether guarantees hold."""
    from saliency_guard.calibration.guarantee import units
    from saliency_guard.calibration.records import TOLD
    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.guarding import compare_scores, reliabilities, risk_coverage
    from saliency_guard.evaluation.world import title
    from saliency_guard.report.plots import plot_coverage, plot_reliability, require_matplotlib

    asked = {"model": model, "calibrator": calibrator, "pictures": count, "page": page}
    count = count or (60 if quick else 500)
    samples, splits = (100, 50) if quick else (1000, 500)
    with reported():
        require_matplotlib()
        check_page(page, "calibration", quick=quick)
        output_folder(out)
        lvlm = load(model, calibrator)  # Refuses one that does not fit before the work.
        judge = lvlm.calibrator
        if judge is None:
            msg = f"{model} has no calibration: fit one with `saliency-guard calibrate`, and name it with --calibrator"
            raise ConfigError(msg)
        parts = [f"```\n{command_line('calibration', asked, quick=quick)}\n```", _fitted(judge, lvlm)]
        result: dict[str, Any] = {"pictures": count, "splits": {}}
        curves: dict[str, dict[str, _Curve]] = {}
        for name in _SPLITS:
            records = _records(lvlm, name, count, out)
            own = records.where(record.draw != TOLD for record in records)
            told = records.where(record.draw == TOLD for record in records)
            reliable = {**reliabilities(own, judge), "answers from elsewhere": judge.evaluate(told).answers}
            compared = [compare_scores(part, judge, samples=samples) for part in (own, told)]
            scores, grounded, _ = units(own, [judge.judge_record(record).answer for record in own], _DRAWS)
            curves[title(name)] = {
                policy: risk_coverage(scores[:, :draws], grounded[:, :draws], keep)
                for policy, (draws, keep) in _POLICIES.items()
            }
            kept = _validities(scores, grounded, splits)
            parts += _section(name, own, reliable=reliable, compared=compared, curves=curves[title(name)], kept=kept)
            result["splits"][name] = {
                "reliability": {kind: one.model_dump() for kind, one in reliable.items() if one is not None},
                "auroc": [[asdict(one) for one in part] for part in compared],
                "validity": [asdict(one) for one in kept],
            }
            write_result(out / "result.json", result)
        folder = output_folder(page.parent / page.stem if page is not None else out)
        plot_coverage(curves, folder / "coverage.png")
        if judge.report is not None:
            plot_reliability(judge.report, folder / "reliability.png")
        section = "\n\n".join(parts)
        if page is not None:
            plots = (
                f"![Risk against coverage]({page.stem}/coverage.png)\n\n"
                f"![Reliability on held-out pictures]({page.stem}/reliability.png)"
            )
            replace_section(page, "calibration", f"{section}\n\n{plots}")
    print(section)


def _records(lvlm: LVLM, split: str, count: int, out: Path) -> Records:
    """The split's labelled answers, three draws to a question; made once."""
    from saliency_guard.calibration.records import Records
    from saliency_guard.evaluation.engine_records import empty_records
    from saliency_guard.evaluation.labelling import Looking
    from saliency_guard.evaluation.record_file import RecordFile
    from saliency_guard.evaluation.world import title
    from saliency_guard.evaluation.world_records import WorldRun, generation, world_records

    path = out / f"{split.replace(' ', '-')}-{count}.jsonl"
    if not path.is_file():
        run = WorldRun(split=split, scenes=count, draws=_DRAWS, told=True)
        file = RecordFile(path, empty_records(lvlm, Looking(), generation(run)))
        with progress(f"answers, {title(split)}", run.answers) as done:
            world_records(lvlm, run, file=file, on_answer=done)
    return Records.load(path)


def _validities(scores: Floats, grounded: Bools, splits: int) -> list[Validity]:
    from saliency_guard.evaluation.guarding import validity

    wrong = 1 - float(grounded[:, 0].mean())
    low, high = (part * wrong for part in _ABOUT)  # Far below nothing is guaranteed, far above all is.
    risks = [risk for risk in _RISKS if low <= risk <= high] or [_RISKS[0]]
    return [
        validity(policy, scores[:, :draws], grounded[:, :draws], risk=risk, keep=keep, splits=splits)
        for risk in risks
        for policy, (draws, keep) in _POLICIES.items()
    ]


def _fitted(judge: Calibrator, lvlm: LVLM) -> str:
    on = judge.fitted_on
    return (
        f"Model {lvlm.model_id}; calibration fitted on {on.source}: {on.answers} answers to questions about "
        f"{on.pictures} pictures, {on.claims} labelled claims, "
        f"features {', '.join(judge.groups)}."
    )


def _section(
    split: str,
    records: Records,
    *,
    reliable: Mapping[str, Reliability | None],
    compared: Sequence[Sequence[Comparison]],
    curves: Mapping[str, _Curve],
    kept: Sequence[Validity],
) -> list[str]:
    from saliency_guard.evaluation.evidence import table
    from saliency_guard.evaluation.world import title

    first = [record for record in records if record.draw == 0]
    wrong = sum(not record.grounded for record in first)
    reliability_rows = [
        [name, str(one.count), f"{one.grounded:.3f}", _number(one.auroc), f"{one.ece:.3f}", f"{one.brier:.3f}"]
        for name, one in reliable.items()
        if one is not None
    ]
    elsewhere = {one.name: one for one in compared[1]}
    auroc_rows = [
        [score.name, *(str(area) for part in (score, elsewhere[score.name]) for area in (part.claims, part.answers))]
        for score in compared[0]
    ]
    coverage_rows = [
        [name, *(f"{max((taken for _, taken, risk in curve if risk <= shown), default=0.0):.1%}" for shown in _SHOWN)]
        for name, curve in curves.items()
    ]
    validity_rows = [
        [
            f"at most {one.risk:.0%} ungrounded, {one.name}",
            f"{one.guaranteed:.1%}",
            f"{one.broken:.1%}",
            f"{one.accepted:.1%}",
            f"{one.observed:.2%}",
        ]
        for one in kept
    ]
    return [
        f"### {title(split)}",
        (
            f"{len(records)} answers, greedy ones and retries at temperature 0.7; of the {len(first)} first answers "
            f"{wrong / len(first):.1%} are not grounded. Beside them answers from elsewhere, half of them false. "
            "Does the number come true:"
        ),
        table(["", "items", "grounded", "AUROC", "ECE", "Brier"], reliability_rows),
        (
            "Does it tell right from wrong (AUROC; single signals in the better of their two directions, of "
            "answers their mean over the claims):"
        ),
        table(["", "claims", "answers", "claims from elsewhere", "answers from elsewhere"], auroc_rows),
        "Part of the questions that can be answered at a risk among the answered of at most:",
        table(["", *(f"{shown:.0%}" for shown in _SHOWN)], coverage_rows),
        (
            f"Guarantees with confidence {kept[0].confidence:.0%}, made on one half of the pictures and tested on the "
            f"other, {kept[0].splits} random halvings:"
        ),
        table(["", "guarantee made", "broken", "answered", "ungrounded"], validity_rows),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
