"""``saliency-guard bench calibration``: how good a model's calibration and the policies based on it are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.guard import make_records
from saliency_guard.cli.options import Model
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
_RISK_RANGE = (0.5, 2.5)
"""Tested risks, relative to the share of wrong first answers: lower risks are never guaranteed, higher ones always."""
_DRAWS = 3
_COVERAGE_RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
_POLICIES: Mapping[str, tuple[int, Keep]] = {
    "no retries": (1, "first"),
    "up to 2 retries": (_DRAWS, "first"),
    "best of 3": (_DRAWS, "best"),
}

_Curve = list[tuple[float, float, float]]


def calibration_command(
    *,
    model: Model = EMBEDDED,
    calibrator: Annotated[
        Path | None, typer.Option(help="A calibration file.", show_default="the model's calibration")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for records and results; records in it are reused.")] = Path(
        "runs/calibration"
    ),
    count: Annotated[
        int | None, typer.Option("--pictures", min=8, help="Pictures per split.", show_default="500")
    ] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """Measure the calibrated grounding (AUROC, reliability), and test whether risk guarantees hold."""
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.guarantee import units
    from saliency_guard.calibration.records import TOLD
    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.guarding import compare_scores, reliabilities, risk_coverage
    from saliency_guard.evaluation.world import title
    from saliency_guard.report.plots import plot_coverage, plot_reliability, require_matplotlib

    options = {"model": model, "calibrator": calibrator, "pictures": count, "page": page}
    count = count or (60 if quick else 500)
    samples, splits = (100, 50) if quick else (1000, 500)
    with reported():
        require_matplotlib()
        check_page(page, "calibration", quick=quick)
        output_folder(out)
        lvlm = load(model)
        tested = Calibrator.load(calibrator) if calibrator is not None else lvlm.calibrator
        if tested is None:
            msg = f"{model} has no calibration: fit one with `saliency-guard calibrate`, and give it with --calibrator"
            raise ConfigError(msg)
        lvlm.with_calibrator(tested)  # Raises now, before the work, if it does not fit the model.
        parts = [f"```\n{command_line('calibration', options, quick=quick)}\n```", _fitted(tested, lvlm)]
        result: dict[str, Any] = {"pictures": count, "splits": {}}
        curves: dict[str, dict[str, _Curve]] = {}
        for name in _SPLITS:
            records = _records(lvlm, name, count, out)
            generated = records.where(record.draw != TOLD for record in records)
            given = records.where(record.draw == TOLD for record in records)
            reliable = {**reliabilities(generated, tested), "given answers": tested.evaluate(given).answers}
            compared = [compare_scores(part, tested, samples=samples) for part in (generated, given)]
            groundings = [tested.judge_record(record).answer for record in generated]
            scores, grounded, _ = units(generated, groundings, _DRAWS)
            curves[title(name)] = {
                policy: risk_coverage(scores[:, :draws], grounded[:, :draws], keep)
                for policy, (draws, keep) in _POLICIES.items()
            }
            validities = _validities(scores, grounded, splits)
            parts += _section(
                name,
                generated,
                reliable=reliable,
                compared=compared,
                curves=curves[title(name)],
                validities=validities,
            )
            result["splits"][name] = {
                "reliability": {
                    kind: reliability.model_dump() for kind, reliability in reliable.items() if reliability is not None
                },
                "auroc": [[asdict(comparison) for comparison in part] for part in compared],
                "validity": [asdict(validity) for validity in validities],
            }
            write_result(out / "result.json", result)
        folder = output_folder(page.parent / page.stem if page is not None else out)
        plot_coverage(curves, folder / "coverage.png")
        if tested.report is not None:
            plot_reliability(tested.report, folder / "reliability.png")
        section = "\n\n".join(parts)
        if page is not None:
            plots = (
                f"![Risk against coverage]({page.stem}/coverage.png)\n\n"
                f"![Reliability on held-out pictures]({page.stem}/reliability.png)"
            )
            replace_section(page, "calibration", f"{section}\n\n{plots}")
    print(section)


def _records(lvlm: LVLM, split: str, count: int, out: Path) -> Records:
    """The split's labelled answers, three per question; read from the folder if they were made before."""
    from saliency_guard.calibration.records import Records
    from saliency_guard.evaluation.world import title

    path = out / f"{split.replace(' ', '-')}-{count}.jsonl"
    if not path.is_file():
        with progress(f"answers, {title(split)}", count * 4 * (_DRAWS + 1)) as done:
            make_records(lvlm, split, count, draws=_DRAWS, told=True, on_answer=done).save(path)
    return Records.load(path)


def _validities(scores: Floats, grounded: Bools, splits: int) -> list[Validity]:
    from saliency_guard.evaluation.guarding import validity

    wrong = 1 - float(grounded[:, 0].mean())
    low, high = (factor * wrong for factor in _RISK_RANGE)
    risks = [risk for risk in _RISKS if low <= risk <= high] or [_RISKS[0]]
    return [
        validity(policy, scores[:, :draws], grounded[:, :draws], risk=risk, keep=keep, splits=splits)
        for risk in risks
        for policy, (draws, keep) in _POLICIES.items()
    ]


def _fitted(calibrator: Calibrator, lvlm: LVLM) -> str:
    data = calibrator.fitted_on
    return (
        f"Model {lvlm.model_id}; calibration fitted on {data.source}: {data.answers} answers to questions about "
        f"{data.pictures} pictures, {data.claims} labelled claims, "
        f"features {', '.join(calibrator.groups)}."
    )


def _section(
    split: str,
    records: Records,
    *,
    reliable: Mapping[str, Reliability | None],
    compared: Sequence[Sequence[Comparison]],
    curves: Mapping[str, _Curve],
    validities: Sequence[Validity],
) -> list[str]:
    from saliency_guard.evaluation.evidence import table
    from saliency_guard.evaluation.world import title

    first = [record for record in records if record.draw == 0]
    wrong = sum(not record.grounded for record in first)
    reliability_rows = [
        [
            name,
            str(reliability.count),
            f"{reliability.grounded:.3f}",
            _number(reliability.auroc),
            f"{reliability.ece:.3f}",
            f"{reliability.brier:.3f}",
        ]
        for name, reliability in reliable.items()
        if reliability is not None
    ]
    given = {comparison.name: comparison for comparison in compared[1]}
    auroc_rows = [
        [
            generated.name,
            str(generated.tokens),
            str(generated.answers),
            str(given[generated.name].tokens),
            str(given[generated.name].answers),
        ]
        for generated in compared[0]
    ]
    coverage_rows = [
        [name, *(f"{_coverage(curve, max_risk):.1%}" for max_risk in _COVERAGE_RISKS)] for name, curve in curves.items()
    ]
    validity_rows = [
        [
            f"at most {validity.risk:.0%} ungrounded, {validity.name}",
            f"{validity.guaranteed:.1%}",
            f"{validity.broken:.1%}",
            f"{validity.accepted:.1%}",
            f"{validity.observed:.2%}",
        ]
        for validity in validities
    ]
    return [
        f"### {title(split)}",
        (
            f"{len(records)} answers, greedy ones and retries at temperature 0.7; of the {len(first)} first answers "
            f"{wrong / len(first):.1%} are not grounded. In addition, given answers, half of them false. "
            "Reliability of the calibrated grounding:"
        ),
        table(["", "items", "grounded", "AUROC", "ECE", "Brier"], reliability_rows),
        (
            "AUROC of separating grounded from ungrounded (single signals in the better of their two directions; for "
            "answers, their mean over the tokens that count):"
        ),
        table(["", "claims", "answers", "claims of given answers", "given answers"], auroc_rows),
        "Share of the questions that can be answered if the share of ungrounded answers may be at most:",
        table(["", *(f"{max_risk:.0%}" for max_risk in _COVERAGE_RISKS)], coverage_rows),
        (
            f"Guarantees with {validities[0].confidence:.0%} confidence, fitted on one half of the pictures and tested "
            f"on the other half, over {validities[0].splits} random splits:"
        ),
        table(["", "guarantee given", "broken", "answered", "ungrounded"], validity_rows),
    ]


def _coverage(curve: _Curve, max_risk: float) -> float:
    """The largest share of answered questions at any threshold whose risk is at most ``max_risk``."""
    return max((coverage for _, coverage, risk in curve if risk <= max_risk), default=0.0)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
