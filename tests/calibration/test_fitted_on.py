from __future__ import annotations

import synthetic

from saliency_guard.calibration.fitted_on import FittedOn, picture_digest


def test_what_records_are_is_counted() -> None:
    records = synthetic.records(7, draws=2)
    fitted_on = FittedOn.of(records, "made up")
    assert (fitted_on.source, fitted_on.pictures, fitted_on.answers) == ("made up", 7, 14)
    assert fitted_on.claims == sum(len(record.claims) for record in records)
    assert set(fitted_on.digests) == {picture_digest(f"picture {number}") for number in range(7)}


def test_digests_tell_names_apart() -> None:
    digests = [picture_digest(f"picture {number}") for number in range(1000)]
    assert len(set(digests)) == 1000
    assert {len(digest) for digest in digests} == {10}
