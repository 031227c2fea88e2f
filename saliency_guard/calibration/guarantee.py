"""A threshold that keeps a promise: Learn then Test (arXiv 2110.01052) over whole policies, retries included.

The unit is one question about one picture. What a policy does with a unit at a threshold is one of three things: it
takes a grounded answer, it takes an ungrounded one, or it takes none.
"""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.records import TOLD, GroundingRecord, Records
from saliency_guard.calibration.reliability import Bools
from saliency_guard.errors import ConfigError, InputError, require_extra
from saliency_guard.settings import Count, Frozen, OpenProbability, Probability

Metric = Literal["accepted", "all"]
Keep = Literal["first", "best"]

# Fixed before any data is seen, as the test asks: probabilities at even steps of log-odds.
THRESHOLDS: tuple[float, ...] = tuple((1 / (1 + np.exp(-np.linspace(-3.0, 7.0, 41)))).round(6).tolist())
_MOST_TIMES_MORE = 1000
_SEQUENCES = 8


class Promise(Frozen):
    """A threshold, and what holds with it for questions like those it was made from.

    With ``confidence`` (over the draw of the records) the risk of the policy is at most ``risk``.

    Attributes:
        threshold: on `GroundedAnswer.grounding`.
        risk: at most this part is ungrounded.
        confidence: how sure that is.
        metric: part of what: ``"accepted"`` answers, or ``"all"`` questions.
        max_retries: of the policy it was made for; it says nothing about another number of retries.
        keep: the answer that policy keeps: the ``"first"`` good enough, or the ``"best"`` of all.
        generation: how the answers were written (see `Records`); None where that is not known.
        units: questions it was made from.
        accepted: part of them that were answered.
        observed: their risk.
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


class NoPromise(Frozen):
    """No threshold keeps the promise, as far as these records can tell.

    Attributes:
        risk: that was asked for.
        confidence: the same.
        metric: the same.
        units: questions there were.
        best_threshold: the one with the lowest risk among those that answer anything; None where none does.
        best_observed: its risk.
        more_records: about how many more questions of the same kind might do; None where no reasonable number would,
            because the observed risk is not clearly below ``risk`` at any threshold.
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
    """What a policy does with every unit: 0 takes a grounded answer, 1 an ungrounded one, NaN takes none.

    Args:
        scores: ``[units, draws]`` in the order they are made; -inf where there is none, and what is no probability
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
) -> Promise | NoPromise:
    """The threshold that answers most while the promise is kept.

    MAPIE tests every one of `THRESHOLDS` (Hoeffding-Bentkus p-values), in sequences from the strictest on that begin at
    eight places: each goes on as long as its tests pass, and has an eighth of the error to spend.

    Args:
        scores: ``[units, draws]``, units independent.
        grounded: ``[units, draws]``.
        risk: at most this part ungrounded.
        confidence: how sure that is to be.
        metric: part of the accepted answers, or of all questions.
        keep: as for `policy_outcomes`.

    Raises:
        ConfigError: if the risk or the confidence is not between 0 and 1.
        MissingExtraError: if MAPIE is not installed.
    """
    risk, confidence = float(risk), float(confidence)
    for name, value in (("risk", risk), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            msg = f"{name}={value} is not between 0 and 1"
            raise ConfigError(msg)
    require_extra("mapie", "MAPIE", "calibrate")
    scores = _usable(scores)
    from mapie.risk_control import (  # noqa: PLC0415 - an extra
        BinaryClassificationController,
        BinaryRisk,
        FWERFixedSequenceTesting,
        control_fwer,
    )

    def taken(_: Any, outcome: Floats) -> Bools:
        return np.isfinite(outcome)

    def anyone(_: Any, outcome: Floats) -> Bools:
        return np.ones(len(outcome), dtype=bool)

    strictest_first = np.array(THRESHOLDS[::-1])
    controller = BinaryClassificationController(
        predict_function=lambda _, threshold: policy_outcomes(scores, grounded, keep, threshold),
        risk=BinaryRisk(
            lambda _, outcome: outcome == 1, taken if metric == "accepted" else anyone, higher_is_better=False
        ),
        target_level=risk,
        confidence_level=confidence,
        best_predict_param_choice=BinaryRisk(taken, anyone, higher_is_better=True),
        list_predict_params=strictest_first[:, None],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That nothing was found is a result here, not a warning.
        controller.calibrate(scores, np.zeros(len(scores), dtype=int))
    values = np.where(scores.max() >= strictest_first, controller.p_values[:, 0], 1.0)  # Nothing taken shows nothing.
    passed = control_fwer(values, 1 - confidence, fwer_method=FWERFixedSequenceTesting(n_starts=_SEQUENCES))
    if not len(passed):
        return _no_promise(scores, grounded, keep, risk=risk, confidence=confidence, metric=metric)
    threshold = strictest_first[passed.max()]  # Of those that keep it, the one that takes most.
    outcome = policy_outcomes(scores, grounded, keep, threshold)
    observed, accepted = observed_risk(outcome, metric)
    return Promise(
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
    """The risk of outcomes from `policy_outcomes` (0 where nothing was taken), and the part that was taken."""
    taken = np.isfinite(outcome)
    whole = taken.sum() if metric == "accepted" else len(outcome)
    return float((outcome == 1).sum() / whole) if whole else 0.0, float(taken.mean())


def _no_promise(
    scores: Floats, grounded: Bools, keep: Keep, *, risk: float, confidence: float, metric: Metric
) -> NoPromise:
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value  # noqa: PLC0415 - an extra

    starts = THRESHOLDS[::-1][:: len(THRESHOLDS) // _SEQUENCES][:_SEQUENCES]  # Where MAPIE's sequences begin.
    found: list[tuple[float, float, float]] = []  # Observed risk, threshold, how many times as many records.
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
        found.append((observed, threshold, float(passing[0]) if len(passing) else float("inf")))
    lowest = min(found, default=None)
    fewest = min((times for _, _, times in found), default=float("inf"))
    return NoPromise(
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
    """Scores and labels of units: one question a picture, since several about one picture are not independent.

    Args:
        records: labelled answers.
        scores: one for each; None where an answer has nothing that counts.
        draws: how many answers each unit is to have.
        seed: of the choice among a picture's questions.

    Returns:
        ``[units, draws]`` scores (-inf for None) and labels, and the unit's picture.

    Raises:
        InputError: if there are no records, or a question has fewer draws.
    """
    by_unit: dict[str, dict[str, dict[int, tuple[GroundingRecord, float]]]] = defaultdict(lambda: defaultdict(dict))
    for record, score in zip(records, scores, strict=True):
        if record.draw == TOLD:  # Not one of the policy's answers.
            continue
        draws_there = by_unit[record.picture][record.question]
        if record.draw in draws_there:
            msg = f"picture {record.picture!r} has two answers number {record.draw} to {record.question!r}"
            raise InputError(msg)
        draws_there[record.draw] = (record, -np.inf if score is None else score)
    if not by_unit:
        msg = "there are no records to make a promise from"
        raise InputError(msg)
    rows: list[list[float]] = []
    labels: list[list[bool]] = []
    for picture, questions in by_unit.items():
        found = questions[random.Random(f"{seed} {picture}").choice(sorted(questions))]  # noqa: S311 - no secret
        missing = [draw for draw in range(draws) if draw not in found]
        if missing:
            msg = (
                f"picture {picture!r} has {len(found)} answers to a question, and a policy with {draws - 1} retries "
                f"needs {draws}: make records with --draws {draws}"
            )
            raise InputError(msg)
        rows.append([found[draw][1] for draw in range(draws)])
        labels.append([found[draw][0].grounded for draw in range(draws)])
    return np.array(rows), np.array(labels, dtype=bool), list(by_unit)
