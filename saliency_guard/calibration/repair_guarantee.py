"""Thresholds for repairs with a guarantee: Learn then Test (arXiv 2110.01052) over answers without their weak claims.

Taking claims out until what is left holds: conformal factuality (arXiv 2402.10978). The wrong fraction of what is kept
does not rise or fall with the threshold, which is why thresholds are tested rather than searched. The unit is one
answer per picture.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.records import GroundingRecord
from saliency_guard.calibration.thresholds import THRESHOLDS
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.claims.repair import RepairGuarantee, RepairKind
from saliency_guard.claims.rewrite import with_dependents
from saliency_guard.errors import ConfigError, require_extra
from saliency_guard.settings import require_between

_SEQUENCES = 4


@dataclass(frozen=True)
class RepairUnit:
    """An answer whose claims have a probability and a label.

    Attributes:
        claims: all that it makes.
        probabilities: of each.
        truths: of each.
    """

    claims: tuple[ExtractedClaim, ...]
    probabilities: tuple[float, ...]
    truths: tuple[bool, ...]

    def kept(self, threshold: float) -> list[bool]:
        """The truths of the claims that a repair keeps."""
        low = {index for index, value in enumerate(self.probabilities) if not value >= threshold}
        gone = with_dependents(self.claims, low)
        return [truth for index, truth in enumerate(self.truths) if index not in gone]

    def wrong_fraction(self, threshold: float) -> float:
        """The part of the claims that a repair keeps which is wrong; 0 where it keeps none."""
        kept = self.kept(threshold)
        return kept.count(False) / len(kept) if kept else 0.0

    @cached_property
    def wrong_fractions(self) -> Floats:
        """``[thresholds]`` the same at each of `THRESHOLDS`."""
        return np.array([self.wrong_fraction(threshold) for threshold in THRESHOLDS])


def repair_units(
    records: Sequence[GroundingRecord],
    probabilities: Sequence[Sequence[float | None]],
    claims: Sequence[Sequence[ExtractedClaim]],
    *,
    seed: int = 0,
) -> list[RepairUnit]:
    """One answer per picture, of those that the model wrote first and whose claims are all judged and labelled.

    Args:
        records: labelled answers.
        probabilities: of each claim of each record.
        claims: of each record, as they were taken out.
        seed: for the choice among a picture's answers.
    """
    by_picture: dict[str, list[RepairUnit]] = defaultdict(list)
    for record, values, extracted in zip(records, probabilities, claims, strict=True):
        known = [value for value in values if value is not None]
        truths = [claim.grounded for claim in record.claims if claim.grounded is not None]
        whole = record.claims and len(known) == len(truths) == len(record.claims) == len(extracted)
        if record.draw == 0 and whole:
            by_picture[record.picture].append(RepairUnit(tuple(extracted), tuple(known), tuple(truths)))
    return [random.Random(f"{seed} {name}").choice(units) for name, units in sorted(by_picture.items())]  # noqa: S311 - no secret


def repair_losses(units: Sequence[RepairUnit], threshold: float, kind: RepairKind, limit: float | None) -> Floats:
    """``[n]`` the loss of each answer at a threshold, from 0 to 1."""
    return _losses(np.array([unit.wrong_fraction(threshold) for unit in units]), kind, limit)


def _losses(fractions: Floats, kind: RepairKind, limit: float | None) -> Floats:
    """Losses from the wrong fractions of what is kept."""
    if kind == "fraction":
        return fractions
    return (fractions > (0.0 if kind == "any" or limit is None else limit)).astype(np.float64)


def choose_repair(
    units: Sequence[RepairUnit],
    *,
    risk: float,
    kind: RepairKind = "any",
    limit: float | None = None,
    confidence: float = 0.95,
) -> RepairGuarantee | None:
    """The threshold that keeps most among those whose risk is guaranteed; None where there is none.

    Each of `THRESHOLDS` is tested (Hoeffding-Bentkus p-values, as MAPIE has them) in four sequences from strict to
    lenient: each goes on as long as its tests pass, and has a quarter of the error probability to spend.

    Args:
        units: answers, independent of each other.
        risk: the largest to guarantee.
        kind: of the risk.
        limit: for ``"fraction_above"``.
        confidence: the probability with which the guarantee is to hold.

    Raises:
        ConfigError: if a setting is out of range, or ``limit`` does not belong to the kind.
        MissingExtraError: if MAPIE is not installed.
    """
    require_between(risk=risk, confidence=confidence)
    if (limit is not None) != (kind == "fraction_above"):
        msg = f'limit={limit} with kind={kind!r}: a limit goes with kind="fraction_above", and only with it'
        raise ConfigError(msg)
    require_extra("mapie", "MAPIE", "calibrate")
    if not units:
        return None
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value  # noqa: PLC0415 - an extra

    strictest_first = THRESHOLDS[::-1]
    losses = _losses(np.stack([unit.wrong_fractions for unit in units], axis=1), kind, limit)
    risks = losses.mean(axis=1)[::-1]
    sizes = np.full(len(risks), float(len(units)))
    values = compute_hoeffding_bentkus_p_value(risks, sizes, risk, binary=kind != "fraction")[:, 0]
    passed = _passed(values, (1 - confidence) / _SEQUENCES)
    if not passed:
        return None
    best = max(passed)
    threshold = strictest_first[best]
    kept = [unit.kept(threshold) for unit in units]
    true_claims = sum(truth for unit in units for truth in unit.truths)
    return RepairGuarantee(
        kind=kind,
        risk=risk,
        confidence=confidence,
        limit=limit,
        threshold=threshold,
        units=len(units),
        observed=float(risks[best]),
        true_kept=sum(map(sum, kept)) / true_claims if true_claims else 0.0,
        emptied=sum(not truths for truths in kept) / len(units),
    )


def _passed(values: Floats, level: float) -> list[int]:
    """Indices of the tests that pass: from each of several starts on, until the first that does not."""
    passed: list[int] = []
    for start in range(0, len(values), -(-len(values) // _SEQUENCES)):
        for index in range(start, len(values)):
            if not values[index] <= level:
                break
            passed.append(index)
    return passed
