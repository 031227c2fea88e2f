"""The section of docs/evidence.md on the calibration: what a user gets, source by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.guarantee import Keep, units
from saliency_guard.calibration.records import GIVEN, Records
from saliency_guard.calibration.reliability import Bools
from saliency_guard.evaluation.evidence import table
from saliency_guard.evaluation.evidence_records import DRAWS
from saliency_guard.evaluation.guarding import (
    Comparison,
    Validity,
    compare_scores,
    coverage_at,
    risk_coverage,
    validity,
)
from saliency_guard.evaluation.reliabilities import Measured, distinct, judge, reliabilities, repeated_share
from saliency_guard.evaluation.world import title

POLICIES: MappingProxyType[str, tuple[int, Keep]] = MappingProxyType(
    {"no retries": (1, "first"), "up to 2 retries": (DRAWS, "first"), "best of 3": (DRAWS, "best")}
)
_RISKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
_ABOUT = (0.5, 2.5)
_SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2)
_HEADER = ("", "items", "true", "refused", "refused of the wrong", "AUROC", "ECE", "Brier", "Brier skill")


@dataclass(frozen=True, slots=True, eq=False)
class SourceResult:
    """What is measured on the answers about one source of pictures.

    Attributes:
        source: its name.
        pictures: how many.
        answers: how many, retries and answers from elsewhere included.
        first_wrong: the part of the first answers that is wrong, of those that claim something and are labelled.
        silent: the part of the first answers that claims nothing.
        repeated: the part of the retries that repeat an earlier answer; NaN without retries.
        rows: of the reliability table.
        own: scores compared on the model's own answers.
        given: scores compared on answers from elsewhere.
        curves: risk against coverage of each policy.
        coverage: policy -> for each of the shown risks, what is answered and what of that is wrong.
        validities: of guarantees.
    """

    source: str
    pictures: int
    answers: int
    first_wrong: float
    silent: float
    repeated: float
    rows: Sequence[Measured]
    own: Sequence[Comparison] = ()
    given: Sequence[Comparison] = ()
    curves: Mapping[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    coverage: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    validities: Sequence[Validity] = ()

    def row(self, name: str) -> Measured | None:
        """A row of the reliability table."""
        return next((row for row in self.rows if row.name == name), None)


def source_result(
    source: str, records: Records, calibrator: Calibrator, *, samples: int, splits: int, retried: bool
) -> SourceResult:
    """Measure a calibration on the answers about one source.

    Args:
        source: its name.
        records: labelled answers that the calibration was not fitted on.
        calibrator: to be measured.
        samples: resamples of intervals.
        splits: random halvings of guarantees.
        retried: whether questions have retries: then policies and guarantees are measured, too.
    """
    judged = judge(records, calibrator)
    first = [record for record in records if record.draw == 0]
    known = [record.grounded for record in first if record.claims and record.grounded is not None]
    result: dict[str, Any] = {
        "source": source,
        "pictures": len({record.picture for record in records if record.pictures == 1}),
        "answers": len(records),
        "first_wrong": 1.0 - float(np.mean(known)) if known else float("nan"),
        "silent": float(np.mean([not record.claims for record in first])) if first else float("nan"),
        "repeated": repeated_share(record for record in records if record.draw != GIVEN),
        "rows": reliabilities(judged),
    }
    if retried:
        single = [each for each in judged if each.record.pictures == 1]
        written = [each for each in single if each.record.draw != GIVEN]
        scores, grounded, _ = units(
            records.where(record.pictures == 1 and record.draw != GIVEN for record in records),
            [each.judgement.answer for each in written],
            DRAWS,
        )
        policies = {name: (scores[:, :draws], grounded[:, :draws], keep) for name, (draws, keep) in POLICIES.items()}
        result |= {
            "own": compare_scores(distinct(written), samples=samples),
            "given": compare_scores([each for each in single if each.record.draw == GIVEN], samples=samples),
            "curves": {name: risk_coverage(*policy) for name, policy in policies.items()},
            "coverage": {name: [coverage_at(*policy, risk) for risk in _SHOWN] for name, policy in policies.items()},
            "validities": _validities(policies, grounded, splits),
        }
    return SourceResult(**result)


def _validities(policies: Mapping[str, tuple[Floats, Bools, Keep]], grounded: Bools, splits: int) -> list[Validity]:
    wrong = 1 - float(grounded[:, 0].mean())
    low, high = (part * wrong for part in _ABOUT)  # Far below nothing is guaranteed, far above all is.
    risks = [risk for risk in _RISKS if low <= risk <= high] or [_RISKS[0]]
    return [
        validity(name, scores, truths, risk=risk, keep=keep, splits=splits)
        for risk in risks
        for name, (scores, truths, keep) in policies.items()
    ]


def calibration_section(results: Sequence[SourceResult], calibrator: Calibrator, command: str, *, model: str) -> str:
    """The whole section: an overview of all sources, then each by itself."""
    on = calibrator.fitted_on
    parts = [
        f"```\n{command}\n```",
        (
            f"Model {model}; calibration fitted on {on.source}: {on.answers} answers to questions about {on.pictures} "
            f"pictures, {on.claims} labelled claims, features {', '.join(calibrator.groups)}."
        ),
        "### What a user gets",
        (
            "Answers that the model writes itself and that claim something, retries that repeat one counted once. "
            "*Refused* get no number; all that follows in a row is about the others. *Brier skill* is 1 for a perfect "
            "number, 0 for one that says nothing but how many are true, below 0 for one that is worse than that."
        ),
        table(
            ["answers about", *_HEADER[1:]],
            [_row(title(result.source), row) for result in results if (row := result.row("answers")) is not None],
        ),
        "The same of single claims:",
        table(
            ["claims about", *_HEADER[1:]],
            [_row(title(result.source), row) for result in results if (row := result.row("claims")) is not None],
        ),
    ]
    for result in results:
        parts += _source_parts(result)
    return "\n\n".join(parts)


def _source_parts(result: SourceResult) -> list[str]:
    wrong = f"; {result.first_wrong:.1%} of the first answers with a claim are not true"
    wrong = "" if np.isnan(result.first_wrong) else wrong
    silent = f"; {result.silent:.0%} of the first answers claim nothing" if result.silent > 0 else ""
    repeated = "" if np.isnan(result.repeated) else f"; {result.repeated:.0%} of the retries repeat an earlier answer"
    parts = [
        f"### {title(result.source)}",
        f"{result.answers} answers about {result.pictures} pictures{wrong}{silent}{repeated}.",
        "Does the number come true:",
        table(_HEADER, [_row(row.name, row) for row in result.rows]),
    ]
    if not result.curves:
        return parts
    elsewhere = {each.name: each for each in result.given}
    compared = [
        [score.name, *(str(area) for part in (score, elsewhere[score.name]) for area in (part.claims, part.answers))]
        for score in result.own
    ]
    covered = [
        [name, *(f"{answered:.1%} ({wrong_:.1%})" for answered, wrong_ in pairs)]
        for name, pairs in result.coverage.items()
    ]
    kept = [
        [
            f"at most {each.risk:.0%} ungrounded, {each.name}",
            f"{each.guaranteed:.1%}",
            f"{each.broken:.1%}",
            f"{each.accepted:.1%}",
            f"{each.observed:.2%}",
        ]
        for each in result.validities
    ]
    return [
        *parts,
        (
            "Does it tell right from wrong (AUROC; the direction of a single signal on one half of the pictures is "
            "that of the other half; of answers their mean over the claims):"
        ),
        table(["", "claims", "answers", "claims from elsewhere", "answers from elsewhere"], compared),
        (
            "Part of the questions that can be answered at a risk among the answered of at most so much (in brackets "
            "what comes of it: the threshold for one half of the questions is chosen on the other):"
        ),
        table(["", *(f"{shown:.0%}" for shown in _SHOWN)], covered),
        (
            f"Guarantees with confidence {result.validities[0].confidence:.0%}, made on one half of the pictures and "
            f"tested on the other, {result.validities[0].splits} random halvings:"
        ),
        table(["", "guarantee made", "broken", "answered", "ungrounded"], kept),
    ]


def _row(name: str, row: Measured) -> list[str]:
    known = row.reliability
    numbers = (known.auroc, known.ece, known.brier, known.skill) if known is not None else (None,) * 4
    return [
        name,
        str(row.count),
        f"{row.true:.3f}",
        f"{row.refused:.1%}",
        "" if np.isnan(row.refused_wrong) else f"{row.refused_wrong:.1%}",
        *("" if number is None else f"{number:.3f}" for number in numbers),
    ]
