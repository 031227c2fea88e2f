"""What a calibration says of an answer, and how well it does."""

from __future__ import annotations

from pydantic import Field

from saliency_guard.calibration.reliability import Reliability
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
