"""The section on the calibration, on records whose truth is made."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic

from saliency_guard import Calibrator, Records
from saliency_guard.evaluation.calibration_page import calibration_section, source_result


@pytest.fixture(scope="module")
def fitted() -> Calibrator:
    return Calibrator.fit(synthetic.records(200), features="signals", held_out=0.0)


def test_a_source_with_retries_has_policies_and_guarantees(fitted: Calibrator) -> None:
    records = synthetic.records(60, seed=1, draws=3, first=10_000)
    result = source_result("openmoji", records, fitted, samples=10, splits=2, retried=True)
    first = [record for record in records if record.draw == 0]
    assert result.first_wrong == pytest.approx(1 - np.mean([record.grounded for record in first]))
    assert result.silent == 0.0
    assert result.pictures == 60
    assert set(result.coverage) == {"no retries", "up to 2 retries", "best of 3"}
    text = calibration_section([result], fitted, "the command", model="m")
    for part in (
        "the command",
        "### What a user gets",
        f"| OpenMoji | {len({(record.picture, record.answer.text) for record in records})} |",
        "### OpenMoji",
        "| answers: descriptions |",
        "Brier skill",
        "up to 2 retries",
        "guarantee made",
        f"{result.repeated:.0%} of the retries repeat",
    ):
        assert part in text


def test_what_gets_no_number_is_shown_as_refused(fitted: Calibrator) -> None:
    records = synthetic.records(20, seed=1, first=10_000)
    several = Records(
        records.fingerprint, [record.model_copy(update={"pictures": 2}) for record in records]
    )  # The calibration covers one picture in a prompt.
    result = source_result("photographs", several, fitted, samples=10, splits=2, retried=False)
    row = result.row("answers")
    assert row is not None
    assert row.refused == 1.0
    assert row.reliability is None
    text = calibration_section([result], fitted, "the command", model="m")
    assert "| Photographs | 20 |" in text
    assert "100.0% | 100.0% |  |  |  |  |" in text
    assert "guarantee made" not in text
