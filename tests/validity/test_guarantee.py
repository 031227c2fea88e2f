"""Do guarantees hold? Over many repetitions, on a case with a closed form and on the picture world.

Not part of the unit tests: the picture world's answers are made first (some minutes), and kept in ``runs/``.
``VALIDITY_PICTURES`` and ``VALIDITY_SPLITS`` make a smaller look of it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from saliency_guard import LVLM, NoGuarantee, RiskMonitor
from saliency_guard.calibration.guarantee import Keep, choose_threshold, units
from saliency_guard.calibration.records import Records
from saliency_guard.calibration.repair_guarantee import RepairUnit, choose_repair, repair_losses, repair_units
from saliency_guard.claims.repair import RepairKind
from saliency_guard.evaluation.guarding import validity
from saliency_guard.evaluation.labelling import Looking, write_records
from saliency_guard.evaluation.questions import world_questions
from saliency_guard.evaluation.record_file import RecordFile
from saliency_guard.evaluation.world import pictures
from saliency_guard.evaluation.world_records import WorldRun, empty_records, generation
from saliency_guard.scenes.claims import extractor_of

REPETITIONS = int(os.environ.get("VALIDITY_SPLITS", "500"))
CONFIDENCE = 0.95
PICTURES = int(os.environ.get("VALIDITY_PICTURES", "500"))
DRAWS = 3
RECORDS = Path(__file__).parents[2] / "runs" / "validity"
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
def answers(request: pytest.FixtureRequest) -> Records:
    """Three draws to one question about each picture: a unit of a guarantee has no more of them."""
    lvlm = LVLM.load()
    looking = Looking(vectors=False)
    run = WorldRun(split=request.param, scenes=PICTURES, draws=DRAWS)
    empty = empty_records(lvlm, looking, generation(run))
    path = RECORDS / f"{request.param.replace(' ', '-')}-{PICTURES}-{empty.fingerprint.weights[:8]}.jsonl"
    if path.is_file():
        return Records.load(path)
    file = RecordFile(path, empty)  # Stopped, it goes on where it was.
    questions = [
        random.Random(f"validity {shown.scene.seed}").choice(world_questions(shown))
        for shown in pictures(request.param, PICTURES)
    ]
    for record in write_records(lvlm, questions, draws=DRAWS, looking=looking, done=file.done):
        file.add(record)
    return file.finish()


@pytest.fixture(scope="module")
def world(answers: Records) -> tuple[np.ndarray, np.ndarray]:
    calibrator = LVLM.load().calibrator
    assert calibrator is not None
    return units(answers, [calibrator.judge_record(record).answer for record in answers], DRAWS)[:2]


@pytest.fixture(scope="module")
def repairable(answers: Records) -> list[RepairUnit]:
    calibrator = LVLM.load().calibrator
    assert calibrator is not None
    judged = [calibrator.judge_record(record).claims for record in answers]
    extractor = extractor_of(calibrator.extractor)
    claims = [extractor(record.answer.text, record.question) for record in answers]
    return repair_units(answers.records, judged, claims)


@pytest.mark.parametrize(("kind", "limit"), [("any", None), ("fraction", None), ("fraction_above", 0.1)])
@pytest.mark.parametrize("risk", [0.05, 0.1, 0.2])
def test_repairs(repairable: list[RepairUnit], kind: RepairKind, limit: float | None, risk: float) -> None:
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(REPETITIONS):
        order = rng.permutation(len(repairable))
        made, fresh = np.array_split(order, 2)
        chosen = choose_repair([repairable[index] for index in made], risk=risk, kind=kind, limit=limit)
        if chosen is not None:
            losses = repair_losses([repairable[index] for index in fresh], chosen.threshold, kind, limit)
            broken += losses.mean() > risk
    assert broken <= ALLOWED


@pytest.mark.parametrize(("draws", "keep"), [(1, "first"), (DRAWS, "first"), (DRAWS, "best")])
@pytest.mark.parametrize("risk", [0.1, 0.2, 0.4])
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
