"""Do guarantees hold? Over many repetitions, on a case with a closed form and on the picture world.

Not part of the unit tests: the picture world's answers are made first (some minutes), and kept in ``runs/``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from saliency_guard import LVLM, NoGuarantee, RiskMonitor
from saliency_guard.calibration.guarantee import Keep, choose_threshold, units
from saliency_guard.calibration.records import Records
from saliency_guard.cli.guard import make_records
from saliency_guard.evaluation.guarding import validity

REPETITIONS = 500
CONFIDENCE = 0.95
PICTURES = 500
DRAWS = 3
RECORDS = Path(__file__).parents[2] / "runs" / "calibration"
# What the confidence allows, and the scatter of so many repetitions on top of it.
ALLOWED = int(binom.ppf(0.999, REPETITIONS, 1 - CONFIDENCE))


def true_risk(threshold: float, draws: int) -> float:
    """P(ungrounded | best score of so many >= t), scores uniform and true: P(ungrounded | score) = 1 - score."""
    below = threshold**draws
    weighted = draws / (draws + 1) * (1 - threshold ** (draws + 1))
    return ((1 - below) - weighted) / (1 - below)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("risk", [0.1, 0.2])
def test_a_case_with_a_closed_form(draws: int, risk: float) -> None:
    broken = guaranteed = 0
    for seed in range(REPETITIONS):
        rng = np.random.default_rng(seed)
        scores = rng.random((4000, draws))
        grounded = rng.random((4000, draws)) < scores
        found = choose_threshold(scores, grounded, risk=risk, confidence=CONFIDENCE, keep="best")
        if not isinstance(found, NoGuarantee):
            guaranteed += 1
            broken += true_risk(found.threshold, draws) > risk
    assert guaranteed > REPETITIONS / 2
    assert broken <= ALLOWED


@pytest.fixture(scope="module", params=["training styles", "openmoji"])
def world(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    path = RECORDS / f"{request.param.replace(' ', '-')}-{PICTURES}.jsonl"
    lvlm = LVLM.load()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        make_records(lvlm, request.param, PICTURES, draws=DRAWS).save(path)
    records = Records.load(path)
    assert lvlm.calibrator is not None
    scores = [lvlm.calibrator.judge_record(record).answer for record in records]
    return units(records, scores, DRAWS)[:2]


@pytest.mark.parametrize(("draws", "keep"), [(1, "first"), (DRAWS, "first"), (DRAWS, "best")])
@pytest.mark.parametrize("risk", [0.05, 0.1, 0.2, 0.3, 0.4])
def test_the_picture_world(world: tuple[np.ndarray, np.ndarray], draws: int, keep: Keep, risk: float) -> None:
    scores, grounded = world
    found = validity(
        "", scores[:, :draws], grounded[:, :draws], risk=risk, confidence=CONFIDENCE, keep=keep, splits=REPETITIONS
    )
    assert found.broken * REPETITIONS <= ALLOWED


def test_the_watch_gives_false_alarms_at_its_level_at_most() -> None:
    alarms = 0
    for seed in range(REPETITIONS):
        monitor = RiskMonitor(0.05, 0.05)
        for wrong in np.random.default_rng(seed).random(2000) < 0.05:
            monitor.update(grounded=not wrong)
        alarms += monitor.alarm
    assert alarms <= ALLOWED
