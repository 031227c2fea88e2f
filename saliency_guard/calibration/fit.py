"""Fitting what a calibration is made of, with scikit-learn: always on some pictures and tested on others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from saliency_guard.calibration.answer_features import answer_summary, counted_rows, record_pieces
from saliency_guard.calibration.features import FEATURE_SETS, Floats
from saliency_guard.calibration.linear import FARTHEST, LinearModel, ProbabilityMap
from saliency_guard.calibration.records import Records
from saliency_guard.calibration.reliability import Bools
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.errors import ConfigError, InputError, require_extra

Method = Literal["logistic", "platt", "isotonic"]
Strings = npt.NDArray[np.str_]

FOLDS = 4
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 1.0)
_FEWEST = FOLDS


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

    found = np.empty(len(positive), dtype=np.int64)
    for index, (_, tested) in enumerate(StratifiedGroupKFold(n_splits=FOLDS).split(positive, positive, groups)):
        found[tested] = index
    return found


def out_of_fold(features: Floats, positive: Bools, groups: Strings) -> tuple[float, Floats]:
    """The best strength of regularisation, and ``[n]`` log-odds each given by a model that never saw the picture."""
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict  # noqa: PLC0415 - an extra

    found: list[tuple[float, float, Floats]] = []
    for strength in STRENGTHS:
        odds = cross_val_predict(
            logistic(strength),
            features,
            positive,
            groups=groups,
            cv=StratifiedGroupKFold(n_splits=FOLDS),
            method="decision_function",
        )
        found.append((loss(odds, positive), strength, odds))
    _, strength, odds = min(found, key=lambda one: one[0])
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
class TokenTable:
    """Labelled tokens, ``[n]`` rows; ``claims`` is False where they only have their answer's label."""

    features: Floats
    grounded: Bools
    pictures: Strings
    claims: bool


@dataclass(frozen=True, slots=True, eq=False)
class TokenFit:
    """A model of tokens, and what it says (out of fold) of those it was fitted on."""

    groups: tuple[str, ...]
    table: TokenTable
    strength: float
    odds: Floats
    model: LinearModel

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the held-out log-odds."""
        return loss(self.odds, self.table.grounded)


def feature_choices(records: Records, features: str | None) -> list[tuple[str, ...]]:
    """The feature sets that the records have, or the one that is asked for."""
    if features is not None:
        if features not in FEATURE_SETS:
            msg = f"no feature set is called {features!r}; there are: {', '.join(FEATURE_SETS)}"
            raise ConfigError(msg)
        return [FEATURE_SETS[features]]
    known = frozenset.intersection(*(record.groups for record in records)) if len(records) else frozenset()
    return [groups for groups in FEATURE_SETS.values() if set(groups) <= known] or [FEATURE_SETS["signals"]]


def fit_tokens(records: Records, groups: tuple[str, ...], counts: TokenFilter) -> TokenFit:
    """Fit the model of tokens.

    Raises:
        InputError: if there are too few labels of either kind.
    """
    table = token_table(records, groups, counts)
    if not enough(table.grounded, table.pictures):
        wrong = int((~table.grounded).sum())
        msg = (
            f"too few labels to fit on: {int(table.grounded.sum())} grounded and {wrong} not; both must come from at "
            f"least {FOLDS} pictures"
        )
        raise InputError(msg)
    strength, odds = out_of_fold(table.features, table.grounded, table.pictures)
    model = fit_linear(table.features, table.grounded, strength)
    return TokenFit(groups, table, strength, odds, model)


def token_table(records: Records, groups: tuple[str, ...], counts: TokenFilter) -> TokenTable:
    """The labelled tokens of records; where no claims were labelled, every token that counts has its answer's label.

    Raises:
        InputError: if the vectors of the records have different lengths.
    """
    claims = any(record.mentions for record in records)
    rows: list[Floats] = []
    grounded: list[bool] = []
    pictures: list[str] = []
    for record in records:
        found = record.features(groups)
        at = {token: row for row, token in enumerate(record.counted)}
        labels = (
            {one.token: one.grounded for one in record.mentions if one.token in at}
            if claims
            else dict.fromkeys(counted_rows(counts, record_pieces(record), record.counted), record.grounded)
        )
        rows += [found[at[token]] for token in labels]
        grounded += labels.values()
        pictures += [record.picture] * len(labels)
    if len({len(row) for row in rows}) > 1:
        msg = "the records' vectors have different lengths: they are not all of one model"
        raise InputError(msg)
    return TokenTable(np.array(rows), np.array(grounded, dtype=bool), np.array(pictures, dtype=str), claims)


def fit_answers(
    records: Records, token: TokenFit, counts: TokenFilter, method: Method
) -> tuple[LinearModel, ProbabilityMap]:
    """The model of answers, from what models of tokens say that never saw the answer's picture."""
    of_token = folds(token.table.grounded, token.table.pictures)
    fold = dict(zip(token.table.pictures.tolist(), of_token.tolist(), strict=True))
    models = [
        fit_linear(token.table.features[of_token != index], token.table.grounded[of_token != index], token.strength)
        for index in range(FOLDS)
    ]
    summaries: list[Floats] = []
    kept: list[bool] = []
    for record in records:
        rows = counted_rows(counts, record_pieces(record), record.counted)
        kept.append(bool(rows))
        if rows:
            # A picture without a labelled token was seen by none of them.
            counted = record.features(token.groups)[list(rows.values())]
            summaries.append(answer_summary(models[fold.get(record.picture, 0)].log_odds(counted), counted))
    labelled = list(compress(records, kept))
    grounded = np.array([record.grounded for record in labelled], dtype=bool)
    pictures = np.array([record.picture for record in labelled], dtype=str)
    if not enough(grounded, pictures):
        msg = f"too few answers of each kind to fit on: {int(grounded.sum())} grounded and {int((~grounded).sum())} not"
        raise InputError(msg)
    features = np.array(summaries)
    strength, odds = out_of_fold(features, grounded, pictures)
    return fit_linear(features, grounded, strength), fit_map(odds, grounded, method)
