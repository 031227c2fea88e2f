"""What a calibration was fitted on."""

from __future__ import annotations

import hashlib

from saliency_guard.calibration.records import Records
from saliency_guard.settings import Count, Frozen


class FittedOn(Frozen):
    """What a calibration was fitted on.

    Attributes:
        source: in words.
        pictures: how many (of documents: how many prompts), those held out for the report included.
        answers: how many.
        claims: labelled claims in them.
        digests: of the pictures' names: a guarantee must not be tested on pictures that the scores were fitted on.
    """

    source: str
    pictures: Count
    answers: Count
    claims: Count
    digests: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Records, source: str) -> FittedOn:
        """A description of records; ``source`` says in words what they are."""
        names = sorted({record.picture for record in records})
        return cls(
            source=source,
            pictures=len(names),
            answers=len(records),
            claims=sum(claim.grounded is not None for record in records for claim in record.claims),
            digests=tuple(map(picture_digest, names)),
        )


def picture_digest(name: str) -> str:
    """A short name for a picture's name."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]
