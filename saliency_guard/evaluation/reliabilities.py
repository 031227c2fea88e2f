"""How good a calibration is, row by row: what a user gets a number for, and whether that number comes true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.records import GIVEN, GroundingRecord, Records
from saliency_guard.calibration.reliability import Reliability, reliability
from saliency_guard.calibration.results import Judgement
from saliency_guard.claims.extract import CLAIM_KINDS


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRecord:
    """A labelled answer, and what a calibration says of it, labels unseen."""

    record: GroundingRecord
    judgement: Judgement

    @property
    def question(self) -> str:
        """What kind of question it answers."""
        return question_kind(self.record.question)


def judge(records: Records, calibrator: Calibrator) -> list[JudgedRecord]:
    """What a calibration says of each of the records."""
    calibrator.require(records.fingerprint)
    return [JudgedRecord(record, calibrator.judge_record(record)) for record in records]


def question_kind(question: str) -> str:
    """``"descriptions"``, ``"yes or no"`` or ``"how many"``."""
    return {"Is": "yes or no", "How": "how many"}.get(question.split(" ", 1)[0], "descriptions")


def distinct(judged: Iterable[JudgedRecord]) -> list[JudgedRecord]:
    """The answers without those that repeat an earlier answer to the same question word by word.

    A retry that says the same again is no further evidence for or against a number.
    """
    known: dict[tuple[str, str, str], JudgedRecord] = {}
    for each in judged:
        known.setdefault((each.record.picture, each.record.question, each.record.answer.text), each)
    return list(known.values())


def repeated_share(records: Iterable[GroundingRecord]) -> float:
    """The part of the retries that repeat an earlier answer to the same question; NaN without retries."""
    seen: dict[tuple[str, str], set[str]] = {}
    repeats: list[bool] = []
    for record in sorted(records, key=lambda each: each.draw):
        texts = seen.setdefault((record.picture, record.question), set())
        if record.draw > 0:
            repeats.append(record.answer.text in texts)
        texts.add(record.answer.text)
    return float(np.mean(repeats)) if repeats else float("nan")


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of the table.

    Attributes:
        name: of the row.
        count: labelled items, refused ones included.
        true: the part of them that is true.
        refused: the part that gets no number.
        refused_wrong: the part of the wrong ones that gets no number; NaN where nothing is wrong.
        reliability: of the numbers that are given; None where there are none.
    """

    name: str
    count: int
    true: float
    refused: float
    refused_wrong: float
    reliability: Reliability | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        known = self.reliability
        return values | {"reliability": {**known.model_dump(), "skill": known.skill} if known is not None else None}


def measure(name: str, items: Sequence[tuple[float | None, bool]]) -> Measured | None:
    """A row from numbers (None is refused) and truths; None where there are no items."""
    if not items:
        return None
    refused = np.array([value is None for value, _ in items])
    truths = np.array([truth for _, truth in items], dtype=bool)
    given = np.array([value for value, _ in items if value is not None], dtype=np.float64)
    wrong = refused[~truths]
    return Measured(
        name=name,
        count=len(items),
        true=float(truths.mean()),
        refused=float(refused.mean()),
        refused_wrong=float(wrong.mean()) if len(wrong) else float("nan"),
        reliability=reliability(given, truths[~refused]) if len(given) else None,
    )


def answer_items(judged: Iterable[JudgedRecord]) -> list[tuple[float | None, bool]]:
    """The number and the truth of every answer that claims anything and is labelled."""
    return [
        (each.judgement.answer, each.record.grounded)
        for each in judged
        if each.record.grounded is not None and each.record.claims
    ]


def claim_items(judged: Iterable[JudgedRecord], kind: str | None = None) -> list[tuple[float | None, bool]]:
    """The same of every labelled claim, or of those of a kind."""
    return [
        (value, claim.grounded)
        for each in judged
        for claim, value in zip(each.record.claims, each.judgement.claims, strict=True)
        if claim.grounded is not None and kind in {None, claim.kind}
    ]


def reliabilities(judged: Sequence[JudgedRecord]) -> list[Measured]:
    """All claims and each kind of them; all answers, those to each kind of question, those from elsewhere.

    Answers that repeat an earlier one are counted once. With several numbers of pictures there are rows for each.
    """
    written = distinct(each for each in judged if each.record.draw != GIVEN)
    given = [each for each in judged if each.record.draw == GIVEN]
    counts = sorted({each.record.pictures for each in judged})
    single = [each for each in written if each.record.pictures == counts[0]] if counts else []
    rows = [measure("claims", claim_items(single))]
    rows += [measure(f"claims: {kind}", claim_items(single, kind)) for kind in CLAIM_KINDS]
    rows.append(measure("answers", answer_items(single)))
    for question in dict.fromkeys(each.question for each in single):
        rows.append(measure(f"answers: {question}", answer_items(each for each in single if each.question == question)))
    rows.append(
        measure("answers from elsewhere", answer_items(each for each in given if each.record.pictures == counts[0]))
    )
    for count in counts if len(counts) > 1 else ():
        name = f"{count} picture{'s' if count > 1 else ''}"
        for label, part in (("", written), (" from elsewhere", given)):
            chosen = [each for each in part if each.record.pictures == count]
            rows += [
                measure(f"{name}: claims{label}", claim_items(chosen)),
                measure(f"{name}: answers{label}", answer_items(chosen)),
            ]
    return [row for row in rows if row is not None]
