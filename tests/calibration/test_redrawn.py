"""What is learnt from answers about redrawn pictures."""

from __future__ import annotations

import numpy as np
import synthetic

from saliency_guard.calibration import fit
from saliency_guard.calibration.records import Records, encoded
from saliency_guard.calibration.redrawn import with_redrawn


def placed(records: Records, centre: float) -> Records:
    """The records, with pictures that look like those around a centre."""
    rng = np.random.default_rng(5)
    rows = [encoded(rng.normal(loc=centre, size=20)) for _ in records]
    return Records(
        records.fingerprint,
        [record.model_copy(update={"domain": (row,)}) for record, row in zip(records, rows, strict=True)],
    )


def test_those_are_learnt_from_that_would_be_covered() -> None:
    usual = placed(synthetic.records(200), 0.0)
    domain = fit.fit_domain(usual, required=True)
    near, far = placed(synthetic.records(200, first=1000), 0.0), placed(synthetic.records(200, first=2000), 9.0)
    assert len(with_redrawn(usual, near, domain, 0.05)) > 200 + 160
    assert len(with_redrawn(usual, far, domain, 0.05)) == 200
    assert len(with_redrawn(usual, far, None, 0.05)) == 400
    unknown = synthetic.records(10, first=3000)  # It is not known what their pictures look like.
    assert len(with_redrawn(usual, unknown, domain, 0.05)) == 200


def test_few_redrawn_ones_come_several_times_and_never_often() -> None:
    usual = synthetic.records(90)
    for count, times in ((0, 0), (90, 1), (200, 1), (50, 2), (30, 3), (2, 4)):
        redrawn = synthetic.records(count, first=1000) if count else usual.where(False for _ in usual)
        learnt = with_redrawn(usual, redrawn, None, 0.05)
        assert len(learnt) == 90 + times * count
        assert [record.picture for record in learnt][:90] == [record.picture for record in usual]
