"""What a calibration says: probabilities, or None with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from saliency_guard.calibration.reliability import reliability
from saliency_guard.calibration.results import CalibrationReport, Judgement


def test_a_report_is_read_back_as_it_was_written() -> None:
    measured = reliability(np.array([0.2, 0.7, 0.9]), np.array([False, True, True]))
    report = CalibrationReport(claims=measured, kinds={"object": measured}, answers=None, refused=0.25)
    assert CalibrationReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), float("inf")])
def test_only_probabilities_are_groundings(wrong: float) -> None:
    assert Judgement(claims=(0.5, None), answer=None, reason="why").claims == (0.5, None)
    for fields in ({"claims": (wrong,), "answer": 0.5}, {"claims": (), "answer": wrong}):
        with pytest.raises(ValidationError):
            Judgement(**fields)
    with pytest.raises(ValidationError):
        Judgement(claims=(), answer=0.5, domain=(wrong,))
