"""What a calibration learns from answers about redrawn pictures: how answers about strange ones go wrong."""

from __future__ import annotations

from saliency_guard.calibration.domain import Domain, prompt_p_value
from saliency_guard.calibration.features import VERIFICATION
from saliency_guard.calibration.records import GroundingRecord, Records

_MOST_TIMES = 4


def with_redrawn(usual: Records, redrawn: Records, domain: Domain | None, level: float) -> Records:
    """Answers about usual pictures, and those about redrawn ones that the domain covers at a level.

    Answers about others are never judged, so nothing is fitted on them. Redrawn pictures are few, and stand for all
    unusual pictures that the domain lets pass: their answers are repeated (up to four times) until they weigh as much
    as the usual ones.
    """
    covered = redrawn if domain is None else redrawn.where(is_covered(record, domain, level) for record in redrawn)
    if not len(covered):
        return usual
    joined = usual
    for _ in range(min(_MOST_TIMES, -(-len(usual) // len(covered)))):
        joined = joined.joined(covered)
    return joined


def is_covered(record: GroundingRecord, domain: Domain, level: float) -> bool:
    """Whether a domain holds for an answer at a level; never where it is not known how its pictures look."""
    if not record.claims or len(record.domain) != record.pictures:
        return False
    odds = record.features((VERIFICATION,))[:, 0]
    return prompt_p_value(domain.p_values(record.domain_features, odds)) >= level
