"""What a calibration says of an answer, and how well it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field

from saliency_guard.calibration.records import GroundingRecord, Records
from saliency_guard.calibration.reliability import Reliability, reliability
from saliency_guard.claims.extract import ClaimKind
from saliency_guard.settings import Frozen, Probability


class CalibrationReport(Frozen):
    """How well a calibration does on pictures it never saw.

    Attributes:
        claims: of all labelled claims that have a probability; None where there were none.
        kinds: of each kind.
        answers: of whole answers; None where none had a probability.
        refused: the part of the answers that got no probability.
    """

    claims: Reliability | None
    kinds: dict[ClaimKind, Reliability] = Field(default_factory=dict)
    answers: Reliability | None
    refused: Probability = 0.0

    @classmethod
    def of(cls, records: Records, judge: Callable[[GroundingRecord], Judgement]) -> CalibrationReport:
        """Measure what ``judge`` says of labelled answers."""
        kinds: dict[ClaimKind, list[tuple[float, bool]]] = {}
        answers: list[tuple[float, bool]] = []
        refused = 0
        for record in records:
            judged = judge(record)
            refused += judged.answer is None
            if judged.answer is not None and record.grounded is not None:
                answers.append((judged.answer, record.grounded))
            for claim, value in zip(record.claims, judged.claims, strict=True):
                if value is not None and claim.grounded is not None:
                    kinds.setdefault(claim.kind, []).append((value, claim.grounded))
        return cls(
            claims=_measured([pair for pairs in kinds.values() for pair in pairs]),
            kinds={kind: measured for kind, pairs in kinds.items() if (measured := _measured(pairs)) is not None},
            answers=_measured(answers),
            refused=refused / len(records) if len(records) else 0.0,
        )


class Judgement(Frozen):
    """What a calibration says of one answer.

    Attributes:
        claims: the probability of each claim that it is grounded; None where the calibration has none for it.
        answer: the probability that all of them are.
        reason: why ``answer`` is None.
        domain: the p-value of each picture.
    """

    claims: tuple[Probability | None, ...]
    answer: Probability | None
    reason: str | None = None
    domain: tuple[Probability, ...] = ()


def _measured(pairs: Sequence[tuple[float, bool]]) -> Reliability | None:
    if not pairs:
        return None
    probability, grounded = zip(*pairs, strict=True)
    return reliability(np.array(probability), np.array(grounded, dtype=bool))
