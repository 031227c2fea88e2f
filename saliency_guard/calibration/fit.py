"""Fitting what a calibration is made of, with scikit-learn: always on some pictures and tested on others."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.linear import FARTHEST, LinearModel, ProbabilityMap
from saliency_guard.calibration.reliability import Bools
from saliency_guard.errors import InputError, require_extra

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
