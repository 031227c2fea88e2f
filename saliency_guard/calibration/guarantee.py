"""A threshold with a risk guarantee: Learn then Test (arXiv 2110.01052) over whole policies, retries included.

The unit is one question about one picture. At a threshold a policy does one of three things with a unit: it accepts a
grounded answer, it accepts an ungrounded one, or it accepts none.
"""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.fitted_on import picture_digest
from saliency_guard.calibration.records import GIVEN, GroundingRecord, Records
from saliency_guard.calibration.reliability import Bools
from saliency_guard.calibration.thresholds import THRESHOLDS
from saliency_guard.errors import InputError, require_extra
from saliency_guard.settings import Count, Frozen, OpenProbability, Probability, require_between

Metric = Literal["accepted", "all"]
Keep = Literal["first", "best"]

_MOST_TIMES_MORE = 1000
_SEQUENCES = 8


class RiskGuarantee(Frozen):
    """A threshold, and the risk that it guarantees for questions like those of its records.

    With probability ``confidence`` (over the draw of the records) the risk of the policy is at most ``risk``.

    Attributes:
        kept: always True: tells it from a `NoGuarantee` in JSON.
        threshold: on `GroundedAnswer.grounding`.
        risk: the largest share of ungrounded answers.
        confidence: the probability that the guarantee holds.
        metric: what the share is of: ``"accepted"`` answers, or ``"all"`` questions.
        max_retries: of the policy that was tested; nothing is guaranteed for another number of retries.
        keep: the attempt that this policy keeps: the ``"first"`` good one, or the ``"best"`` of all.
        generation: how the answers were written (see `Records`); None where that is not known.
        units: how many questions were tested.
        accepted: the share of them that were answered.
        observed: the risk on them.
    """

    kept: Literal[True] = True
    threshold: Probability
    risk: OpenProbability
    confidence: OpenProbability
    metric: Metric
    max_retries: Count
    keep: Keep
    generation: dict[str, Any] | None = None
    units: Annotated[int, Field(ge=1)]
    accepted: Probability
    observed: Probability


class NoGuarantee(Frozen):
    """These records give a guarantee for no threshold.

    Attributes:
        kept: always False: tells it from a `RiskGuarantee` in JSON.
        risk: that was to be guaranteed.
        confidence: with which it was to be guaranteed.
        metric: the same.
        units: how many questions were tested.
        best_threshold: the threshold with the lowest observed risk among those that accept anything; None where none
            does.
        best_observed: its risk.
        more_records: about how many more questions of the same kind might suffice; None where no reasonable number
            would, because the observed risk is not clearly below ``risk`` at any threshold.
    """

    kept: Literal[False] = False
    risk: OpenProbability
    confidence: OpenProbability
    metric: Metric
    units: Count
    best_threshold: Probability | None
    best_observed: Probability | None
    more_records: Count | None


def policy_outcomes(scores: Floats, grounded: Bools, keep: Keep, threshold: float) -> Floats:
    """What a policy accepts for every unit: 0 is a grounded answer, 1 an ungrounded one, NaN none.

    Args:
        scores: ``[units, draws]`` in the order of the attempts; -inf where there is none, and what is no probability
            counts as none.
        grounded: ``[units, draws]``.
        keep: the first draw at or above the threshold, or the best of all.
        threshold: on the scores.
    """
    scores = _usable(scores)
    enough = scores >= threshold
    chosen = enough.argmax(axis=1) if keep == "first" else scores.argmax(axis=1)
    rows = np.arange(len(scores))
    return np.where(enough[rows, chosen], (~grounded[rows, chosen]).astype(np.float64), np.nan)


def _usable(scores: Floats) -> Floats:
    """Scores with -inf for what is no probability: NaN is the best of all to `argmax`, and infinity is good enough."""
    result: Floats = np.where((scores >= 0.0) & (scores <= 1.0), scores, -np.inf)
    return result


def choose_threshold(
    scores: Floats,
    grounded: Bools,
    *,
    risk: float,
    confidence: float,
    metric: Metric = "accepted",
    keep: Keep = "first",
) -> RiskGuarantee | NoGuarantee:
    """The threshold that accepts most among those whose risk is guaranteed.

    MAPIE tests each of `THRESHOLDS` (Hoeffding-Bentkus p-values) in eight sequences that run from strict to lenient:
    each goes on as long as its tests pass, and has an eighth of the error probability to spend.

    Args:
        scores: ``[units, draws]``, units independent.
        grounded: ``[units, draws]``.
        risk: the largest share of ungrounded answers to guarantee.
        confidence: the probability with which the guarantee is to hold.
        metric: whether the share is of the accepted answers, or of all questions.
        keep: as for `policy_outcomes`.

    Raises:
        ConfigError: if the risk or the confidence is not between 0 and 1.
        MissingExtraError: if MAPIE is not installed.
    """
    risk, confidence = float(risk), float(confidence)
    require_between(risk=risk, confidence=confidence)
    require_extra("mapie", "MAPIE", "calibrate")
    scores = _usable(scores)
    from mapie.risk_control import (  # noqa: PLC0415 - an extra
        BinaryClassificationController,
        BinaryRisk,
        FWERFixedSequenceTesting,
        control_fwer,
    )

    def accepts(_: Any, outcome: Floats) -> Bools:
        return np.isfinite(outcome)

    def every_unit(_: Any, outcome: Floats) -> Bools:
        return np.ones(len(outcome), dtype=bool)

    strictest_first = np.array(THRESHOLDS[::-1])
    controller = BinaryClassificationController(
        predict_function=lambda _, threshold: policy_outcomes(scores, grounded, keep, threshold),
        risk=BinaryRisk(
            lambda _, outcome: outcome == 1, accepts if metric == "accepted" else every_unit, higher_is_better=False
        ),
        target_level=risk,
        confidence_level=confidence,
        best_predict_param_choice=BinaryRisk(accepts, every_unit, higher_is_better=True),
        list_predict_params=strictest_first[:, None],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That no threshold passes is a result here, not a warning.
        controller.calibrate(scores, np.zeros(len(scores), dtype=int))
    values = np.where(scores.max() >= strictest_first, controller.p_values[:, 0], 1.0)  # No answers, no evidence.
    passed = control_fwer(values, 1 - confidence, fwer_method=FWERFixedSequenceTesting(n_starts=_SEQUENCES))
    if not len(passed):
        return _no_guarantee(scores, grounded, keep, risk=risk, confidence=confidence, metric=metric)
    threshold = strictest_first[passed.max()]  # Of those that pass, the one that accepts most.
    outcome = policy_outcomes(scores, grounded, keep, threshold)
    observed, accepted = observed_risk(outcome, metric)
    return RiskGuarantee(
        threshold=float(threshold),
        risk=risk,
        confidence=confidence,
        metric=metric,
        max_retries=scores.shape[1] - 1,
        keep=keep,
        units=len(scores),
        accepted=accepted,
        observed=observed,
    )


def observed_risk(outcome: Floats, metric: Metric) -> tuple[float, float]:
    """The risk of outcomes from `policy_outcomes` (0 where nothing was accepted), and the share that was accepted."""
    accepted = np.isfinite(outcome)
    total = accepted.sum() if metric == "accepted" else len(outcome)
    return float((outcome == 1).sum() / total) if total else 0.0, float(accepted.mean())


def _no_guarantee(
    scores: Floats, grounded: Bools, keep: Keep, *, risk: float, confidence: float, metric: Metric
) -> NoGuarantee:
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value  # noqa: PLC0415 - an extra

    starts = THRESHOLDS[::-1][:: len(THRESHOLDS) // _SEQUENCES][:_SEQUENCES]  # Where MAPIE's sequences begin.
    candidates: list[tuple[float, float, float]] = []  # Observed risk, threshold, how many times as many records.
    for threshold in THRESHOLDS:
        outcome = policy_outcomes(scores, grounded, keep, threshold)
        observed, accepted = observed_risk(outcome, metric)
        if not accepted:
            continue
        tests = len(scores) * (accepted if metric == "accepted" else 1.0)
        times = np.geomspace(1.0, _MOST_TIMES_MORE, 200)
        sizes = np.ceil(tests * times)  # Counts, as the test has them.
        risks = np.round(observed * sizes) / sizes
        values = compute_hoeffding_bentkus_p_value(risks, sizes, risk, binary=True)
        reachable = observed < risk and threshold in starts
        passing = times[values[:, 0] <= (1 - confidence) / _SEQUENCES] if reachable else times[:0]
        candidates.append((observed, threshold, float(passing[0]) if len(passing) else float("inf")))
    lowest = min(candidates, default=None)
    fewest = min((times for _, _, times in candidates), default=float("inf"))
    return NoGuarantee(
        risk=risk,
        confidence=confidence,
        metric=metric,
        units=len(scores),
        best_threshold=lowest[1] if lowest else None,
        best_observed=lowest[0] if lowest else None,
        more_records=int(np.ceil((fewest - 1) * len(scores))) if np.isfinite(fewest) else None,
    )


def units(
    records: Records, scores: Sequence[float | None], draws: int, *, seed: int = 0
) -> tuple[Floats, Bools, list[str]]:
    """Scores and labels of units: one question per picture, since several about one picture are not independent.

    Args:
        records: labelled answers.
        scores: a score for each record; None where an answer has no grounding.
        draws: how many answers each unit needs.
        seed: for the choice among a picture's questions.

    Returns:
        ``[units, draws]`` scores (-inf for None) and labels, and the unit's picture.

    Raises:
        InputError: if there are no records, or a question has fewer draws.
    """
    by_unit: dict[str, dict[str, dict[int, tuple[GroundingRecord, float]]]] = defaultdict(lambda: defaultdict(dict))
    for record, score in zip(records, scores, strict=True):
        if record.draw == GIVEN:  # Written elsewhere, not by the policy.
            continue
        draws_there = by_unit[record.picture][record.question]
        if record.draw in draws_there:
            msg = f"picture {record.picture!r} has two answers number {record.draw} to {record.question!r}"
            raise InputError(msg)
        draws_there[record.draw] = (record, -np.inf if score is None else score)
    if not by_unit:
        msg = "there are no records to test a guarantee on"
        raise InputError(msg)
    rows: list[list[float]] = []
    labels: list[list[bool]] = []
    for picture, questions in by_unit.items():
        answers = questions[random.Random(f"{seed} {picture}").choice(sorted(questions))]  # noqa: S311 - no secret
        missing = [draw for draw in range(draws) if draw not in answers]
        if missing:
            msg = (
                f"picture {picture!r} has {len(answers)} answers to a question, and a policy with {draws - 1} retries "
                f"needs {draws}: make records with --draws {draws}"
            )
            raise InputError(msg)
        rows.append([answers[draw][1] for draw in range(draws)])
        labels.append([_label(answers[draw][0]) for draw in range(draws)])
    return np.array(rows), np.array(labels, dtype=bool), list(by_unit)


def _label(record: GroundingRecord) -> bool:
    if record.grounded is None:
        msg = (
            f"it is not known whether all of the answer about picture {record.picture!r} is true: a guarantee needs "
            "labels of whole answers"
        )
        raise InputError(msg)
    return record.grounded


def record_scores(records: Records, calibrator: Calibrator | None) -> Sequence[float | None]:
    """The grounding of every record's answer; None where an answer has none.

    Args:
        records: labelled answers.
        calibrator: judges them; None takes the grounding that the answers have.

    Raises:
        InputError: if the answers have no grounding, or the calibrator was fitted on their pictures.
        CalibrationMismatchError: if the calibrator is another model's.
    """
    if calibrator is None:
        if any(record.answer.grounding is None and not record.answer.calibrated for record in records):
            msg = "the records' answers have no calibrated grounding: pass calibrator=..."
            raise InputError(msg)
        return [record.answer.grounding for record in records]
    calibrator.require(records.fingerprint)
    fitted = calibrator.digests
    seen = next((record.picture for record in records if picture_digest(record.picture) in fitted), None)
    if seen is not None:
        msg = (
            f"the calibrator was fitted on picture {seen!r}: its grounding there is too good to test a guarantee on; "
            "use records of other pictures"
        )
        raise InputError(msg)
    return [calibrator.judge_record(record).answer for record in records]
