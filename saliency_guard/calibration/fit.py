"""Fitting what a calibration is made of, with scikit-learn: always on some pictures and tested on others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from saliency_guard.calibration.claim_features import answer_summary
from saliency_guard.calibration.claim_models import ClaimModel
from saliency_guard.calibration.domain import FEWEST_PICTURES, Domain
from saliency_guard.calibration.features import FEATURE_SETS, VERIFICATION, Floats
from saliency_guard.calibration.linear import FARTHEST, LinearModel, ProbabilityMap
from saliency_guard.calibration.records import Records
from saliency_guard.calibration.reliability import Bools
from saliency_guard.claims.extract import CLAIM_KINDS, ClaimKind
from saliency_guard.errors import ConfigError, InputError, require_extra
from saliency_guard.models.vision_features import RECOGNITION

Method = Literal["logistic", "platt", "isotonic"]
Strings = npt.NDArray[np.str_]

FOLDS = 4
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 1.0)
_FEWEST = FOLDS
_FEWEST_OF_A_COUNT = 20


def require_scikit_learn() -> None:
    """Raise `MissingExtraError` now rather than later if scikit-learn is missing."""
    require_extra("sklearn", "scikit-learn", "calibrate")


def enough(positive: Bools, groups: Strings) -> bool:
    """Whether both kinds come from enough pictures for every fold to have some."""
    return all(len(np.unique(groups[kind])) >= _FEWEST for kind in (positive, ~positive))


def logistic(strength: float) -> Any:
    """A regularised logistic model, unfitted: as `LinearModel` has it."""
    from sklearn.impute import SimpleImputer  # noqa: PLC0415 - an extra
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - an extra
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - an extra
    from sklearn.preprocessing import FunctionTransformer, StandardScaler  # noqa: PLC0415 - an extra

    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        FunctionTransformer(np.clip, kw_args={"a_min": -FARTHEST, "a_max": FARTHEST}),
        LogisticRegression(max_iter=2000, C=strength),
    )


def folds(positive: Bools, groups: Strings) -> npt.NDArray[np.int64]:
    """``[n]`` the fold of each; a group is in one fold, and every fold has both kinds as far as that goes."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - an extra

    fold = np.empty(len(positive), dtype=np.int64)
    for index, (_, tested) in enumerate(StratifiedGroupKFold(n_splits=FOLDS).split(positive, positive, groups)):
        fold[tested] = index
    return fold


def out_of_fold(features: Floats, positive: Bools, groups: Strings) -> tuple[float, Floats]:
    """The best strength of regularisation, and ``[n]`` log-odds each given by a model that never saw the picture."""
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict  # noqa: PLC0415 - an extra

    tried: list[tuple[float, float, Floats]] = []
    for strength in STRENGTHS:
        odds = cross_val_predict(
            logistic(strength),
            features,
            positive,
            groups=groups,
            cv=StratifiedGroupKFold(n_splits=FOLDS),
            method="decision_function",
        )
        tried.append((loss(odds, positive), strength, odds))
    _, strength, odds = min(tried, key=lambda result: result[0])
    return strength, odds


def loss(log_odds: Floats, positive: Bools) -> float:
    """Mean negative log-likelihood in nats."""
    signed = np.where(positive, log_odds, -log_odds)
    return float(np.logaddexp(0.0, -signed).mean())


def fit_linear(features: Floats, positive: Bools, strength: float) -> LinearModel:
    """The logistic model as plain numbers."""
    fitted = logistic(strength).fit(features, positive)
    imputer, scaler, _, model = (step for _, step in fitted.steps)
    return LinearModel(
        median=tuple(np.nan_to_num(imputer.statistics_).tolist()),
        mean=tuple(scaler.mean_.tolist()),
        scale=tuple(scaler.scale_.tolist()),
        coefficient=tuple(model.coef_[0].tolist()),
        intercept=float(model.intercept_[0]),
    )


def fit_map(log_odds: Floats, positive: Bools, method: Method) -> ProbabilityMap:
    """From log-odds (of pictures their model never saw) to probabilities."""
    if method == "platt":
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - an extra

        platt = LogisticRegression(C=np.inf).fit(log_odds[:, None], positive)
        return ProbabilityMap(method=method, slope=float(platt.coef_[0, 0]), offset=float(platt.intercept_[0]))
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - an extra

        isotonic = IsotonicRegression(out_of_bounds="clip").fit(log_odds, positive.astype(np.float64))
        if len(isotonic.X_thresholds_) < 2:
            msg = "all labelled claims have the same log-odds: there is no isotonic map through one point"
            raise InputError(msg)
        points = zip(isotonic.X_thresholds_.tolist(), isotonic.y_thresholds_.tolist(), strict=True)
        return ProbabilityMap(method=method, points=tuple(points))
    return ProbabilityMap()


@dataclass(frozen=True, slots=True, eq=False)
class ClaimTable:
    """Labelled claims of one kind, ``[n]`` rows."""

    features: Floats
    grounded: Bools
    pictures: Strings


@dataclass(frozen=True, slots=True, eq=False)
class ClaimFit:
    """A model of one kind of claims, and what it says (out of fold) of those it was fitted on."""

    kind: ClaimKind
    table: ClaimTable
    strength: float
    odds: Floats
    model: LinearModel
    by_fold: Mapping[str, LinearModel]
    """Picture -> a model that never saw it."""

    @classmethod
    def of(cls, kind: ClaimKind, table: ClaimTable, strength: float, odds: Floats) -> ClaimFit:
        """The models of a strength that was chosen; arguments as the attributes."""
        fold = folds(table.grounded, table.pictures)
        by_fold: dict[str, LinearModel] = {}
        for index in range(FOLDS):
            others = fold != index
            model = fit_linear(table.features[others], table.grounded[others], strength)
            by_fold |= dict.fromkeys(table.pictures[~others].tolist(), model)
        return cls(kind, table, strength, odds, fit_linear(table.features, table.grounded, strength), by_fold)


@dataclass(frozen=True, slots=True, eq=False)
class ClaimFits:
    """The models of all kinds of claims that have labels enough.

    Attributes:
        groups: the feature groups.
        kinds: a fit for each kind.
        labelled: whether claims were labelled; else each has its answer's label.
    """

    groups: tuple[str, ...]
    kinds: tuple[ClaimFit, ...]
    labelled: bool


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a feature set says of claims, each by a model that never saw the picture.

    Attributes:
        groups: the feature groups.
        labelled: as in `ClaimFits`.
        kinds: of each kind its claims, the best strength of regularisation, and ``[n]`` log-odds.
    """

    groups: tuple[str, ...]
    labelled: bool
    kinds: Mapping[ClaimKind, tuple[ClaimTable, float, Floats]]

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the log-odds over all claims."""
        counts = [len(table.grounded) for table, _, _ in self.kinds.values()]
        losses = [loss(odds, table.grounded) for table, _, odds in self.kinds.values()]
        return float(np.average(losses, weights=counts))


def feature_choices(records: Records, features: str | None) -> list[tuple[str, ...]]:
    """The feature sets that the records have, or the one that is asked for."""
    if features is not None:
        if features not in FEATURE_SETS:
            msg = f"no feature set is called {features!r}; there are: {', '.join(FEATURE_SETS)}"
            raise ConfigError(msg)
        return [FEATURE_SETS[features]]
    known = frozenset.intersection(*(record.groups for record in records)) if len(records) else frozenset()
    verified = any(claim.verified is not None for record in records for claim in record.claims)
    sets = [groups for name, groups in FEATURE_SETS.items() if set(groups) <= known and (verified or name == "signals")]
    return sets or [FEATURE_SETS["signals"]]


def fit_claims(records: Records, *sets: tuple[str, ...]) -> ClaimFits:
    """Fit a model for every kind of claim of which enough are labelled, on the feature set with the least loss.

    Raises:
        InputError: if there are too few labels for any kind, or vectors of different lengths.
    """
    best = min((tried(records, groups) for groups in sets), key=lambda trial: trial.loss)
    return ClaimFits(best.groups, tuple(ClaimFit.of(kind, *each) for kind, each in best.kinds.items()), best.labelled)


def tried(records: Records, groups: tuple[str, ...]) -> Trial:
    """One feature set on every kind of claim of which enough are labelled; errors as `fit_claims`."""
    labelled = any(claim.grounded is not None for record in records for claim in record.claims)
    tables = claim_tables(records, groups, labelled=labelled)
    enough_of = {kind: table for kind, table in tables.items() if enough(table.grounded, table.pictures)}
    if not enough_of:
        counts = "; ".join(
            f"{int(table.grounded.sum())} {kind} claims are grounded and {int((~table.grounded).sum())} are not"
            for kind, table in tables.items()
        )
        msg = (
            f"too few labels to fit on: {counts or 'there are no labelled claims'}; both must come from at least "
            f"{FOLDS} pictures"
        )
        raise InputError(msg)
    kinds = {
        kind: (table, *out_of_fold(table.features, table.grounded, table.pictures)) for kind, table in enough_of.items()
    }
    return Trial(groups, labelled, kinds)


def claim_tables(records: Records, groups: tuple[str, ...], *, labelled: bool) -> dict[ClaimKind, ClaimTable]:
    """The labelled claims of records by kind.

    Args:
        records: the answers.
        groups: feature groups.
        labelled: whether claims have labels; else each has its answer's.

    Raises:
        InputError: if the vectors of the records have different lengths.
    """
    rows: dict[ClaimKind, list[tuple[Floats, bool, str]]] = {}
    for record in records:
        if not record.claims:
            continue
        features = record.features(groups)
        for claim, row in zip(record.claims, features, strict=True):
            truth = claim.grounded if labelled else record.grounded
            if truth is not None:
                rows.setdefault(claim.kind, []).append((row, truth, record.picture))
    if len({len(row) for kept in rows.values() for row, _, _ in kept}) > 1:
        msg = "the records' vectors have different lengths: they are not all of one model"
        raise InputError(msg)
    return {
        kind: ClaimTable(
            np.array([row for row, _, _ in rows[kind]]),
            np.array([truth for _, truth, _ in rows[kind]], dtype=bool),
            np.array([picture for _, _, picture in rows[kind]], dtype=str),
        )
        for kind in CLAIM_KINDS
        if kind in rows
    }


@dataclass(frozen=True, slots=True, eq=False)
class AnswerFit:
    """The model of whole answers."""

    model: LinearModel
    odds: Floats
    grounded: Bools


def fit_answers(records: Records, fits: ClaimFits) -> AnswerFit | None:
    """The model of answers, from what models of claims say that never saw the answer's picture.

    None where whole answers were not labelled, or too few of them of either kind.
    """
    known = {fit.kind: fit for fit in fits.kinds}
    summaries: list[Floats] = []
    grounded: list[bool] = []
    pictures: list[str] = []
    for record in records:
        kinds = [claim.kind for claim in record.claims]
        if not kinds or record.grounded is None or not set(kinds) <= known.keys():
            continue
        features = record.features(fits.groups)
        odds = [
            known[kind].by_fold.get(record.picture, known[kind].model).log_odds(row[None])[0]
            for kind, row in zip(kinds, features, strict=True)
        ]
        summaries.append(answer_summary(np.array(odds), kinds))
        grounded.append(record.grounded)
        pictures.append(record.picture)
    truth, names = np.array(grounded, dtype=bool), np.array(pictures, dtype=str)
    if not len(truth) or not enough(truth, names):
        return None
    table = np.array(summaries)
    strength, held_out_odds = out_of_fold(table, truth, names)
    return AnswerFit(fit_linear(table, truth, strength), held_out_odds, truth)


def fitted_models(claims: ClaimFits, answers: AnswerFit | None, method: Method) -> dict[str, Any]:
    """What was fitted, as the attributes of `FittedModels`."""
    return {
        "kinds": tuple(
            ClaimModel(kind=each.kind, model=each.model, map=fit_map(each.odds, each.table.grounded, method))
            for each in claims.kinds
        ),
        "claims_labelled": claims.labelled,
        "answer_model": answers.model if answers is not None else None,
        "answer_map": fit_map(answers.odds, answers.grounded, method) if answers else ProbabilityMap(),
    }


def held_apart(records: Records, part: float, seed: int) -> tuple[Records, Records]:
    """The records to fit on, and those of the pictures that are held out.

    Args:
        records: all of them.
        part: of the pictures that is held out.
        seed: of the choice.

    Raises:
        ConfigError: if it is no part.
    """
    if not 0.0 <= part < 1.0:
        msg = f"held_out={part} is no part of the pictures: give 0 or more, and less than 1"
        raise ConfigError(msg)
    names = sorted({record.picture for record in records})
    drawn = np.random.default_rng(seed).permutation(len(names))[: round(part * len(names))]
    hidden = {names[index] for index in drawn}
    return (
        records.where(record.picture not in hidden for record in records),
        records.where(record.picture in hidden for record in records),
    )


def require_method(method: str) -> None:
    """Raise `ConfigError` for a method that is none."""
    if method not in ("logistic", "platt", "isotonic"):
        msg = f"method={method!r}: choose logistic, platt or isotonic"
        raise ConfigError(msg)


def frequent(counts: Iterable[int]) -> tuple[int, ...]:
    """Numbers (of the pictures or documents of each record) that are there often enough; at least the most frequent."""
    known = Counter(counts)
    return tuple(sorted(count for count, times in known.items() if times >= _FEWEST_OF_A_COUNT)) or (
        known.most_common(1)[0][0],
    )


def fit_domain(records: Records, *, required: bool | None) -> Domain | None:
    """The domain of the records' pictures.

    Args:
        records: labelled answers.
        required: whether there has to be one; None fits one where there are pictures enough.

    Raises:
        InputError: if it is required and there are too few pictures.
    """
    rows = {(record.picture, number): row for record in records for number, row in enumerate(record.domain_features)}
    if required is False or (required is None and len(rows) < FEWEST_PICTURES):
        return None
    features = np.array(list(rows.values())) if rows else np.empty((0, 2 + RECOGNITION))
    numbers = {key: index for index, key in enumerate(rows)}
    answers = [
        ([numbers[record.picture, number] for number in range(record.pictures)], record.features((VERIFICATION,))[:, 0])
        for record in records
        if record.claims and len(record.domain) == record.pictures
    ]
    recognition = RECOGNITION if features.shape[1] > RECOGNITION + 1 else 0
    return Domain.fit(features, recognition=recognition, answers=answers)
