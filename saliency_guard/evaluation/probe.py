"""Logistic models on signals and on vectors of attention, fitted on some pictures and tested on others."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np

from saliency_guard.calibration.features import Floats, logs, signed_logs
from saliency_guard.calibration.fit import FOLDS, STRENGTHS, logistic
from saliency_guard.errors import require_extra
from saliency_guard.evaluation.detection import SCALARS, WORDS, MentionTable


def _signals(*names: str) -> Callable[[MentionTable], Floats]:
    columns = [SCALARS.index(name) for name in names]
    return lambda table: table.signals[:, columns]


FEATURES: MappingProxyType[str, Callable[[MentionTable], Floats]] = MappingProxyType(
    {
        "priors": lambda table: table.priors,
        "uncertainty": _signals("nll", "entropy", "margin"),
        "saliency scores": _signals("saliency", "saliency_ratio", "image_share", "output_share"),
        "attention scores": _signals("svar", "pas", "ads"),
        "evidence": _signals("logit_lens", "focused_lens", "glsim", "llcc", "cgc"),
        "contrast": _signals("contrast", "vauq"),
        "evidence by layer": lambda table: table.evidence,
        "saliency by head": lambda table: logs(table.saliency),
        "signed saliency by head": lambda table: signed_logs(table.signed),
        "attention by head": lambda table: logs(table.attention),
        "hidden state": lambda table: table.state,
        "word": lambda table: np.eye(len(WORDS))[table.word],
    }
)
"""Groups of features by name."""

SINGLE_SIGNALS = ("uncertainty", "saliency scores", "attention scores", "evidence", "contrast")
_EVIDENCE_GROUPS = tuple(name for name in FEATURES if name not in {"priors", "word", "hidden state"})
"""Features of how a mention was generated. The word itself, which a hidden state also encodes, is left out: some words
are hallucinated more often than others, which a model can learn without looking at the picture."""

COMBINATIONS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "position only": ("priors",),
        "word only": ("word",),
        "signals": SINGLE_SIGNALS,
        "signals + position": (*SINGLE_SIGNALS, "priors"),
        "attention probe": ("attention by head",),
        "saliency probe": ("saliency by head", "signed saliency by head"),
        "evidence probe": ("evidence by layer",),
        "state probe": ("hidden state",),
        "all": _EVIDENCE_GROUPS,
        "all + position": (*_EVIDENCE_GROUPS, "priors"),
        "all + word": (*_EVIDENCE_GROUPS, "word"),
        "everything": tuple(FEATURES),
    }
)
"""Combinations of feature groups, by their name in the table."""


def features(table: MentionTable, groups: tuple[str, ...]) -> Floats:
    """``[n, columns]`` features of several groups; NaN where a signal is undefined."""
    return np.concatenate([FEATURES[name](table) for name in groups], axis=1)


def require_scikit_learn() -> None:
    """Raise `MissingExtraError` if scikit-learn is not installed."""
    require_extra("sklearn", "scikit-learn", "bench")


def fit(table: MentionTable, groups: tuple[str, ...]) -> Any:
    """A regularised logistic model of "hallucinated"; cross-validation over pictures chooses the regularisation.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.metrics import log_loss, make_scorer  # noqa: PLC0415 - an extra
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold  # noqa: PLC0415 - an extra

    search = GridSearchCV(
        logistic(1.0),
        {"logisticregression__C": list(STRENGTHS)},
        scoring=make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=[False, True]),
        cv=StratifiedGroupKFold(n_splits=FOLDS),
    )
    return search.fit(features(table, groups), table.hallucinated, groups=table.picture)


def predict(model: Any, table: MentionTable, groups: tuple[str, ...]) -> Floats:
    """``[n]`` log-odds of "hallucinated" under a model from `fit`."""
    odds: Floats = model.decision_function(features(table, groups))
    return odds


def halves(table: MentionTable) -> tuple[MentionTable, MentionTable]:
    """The fitting half and the testing half: pictures with even seeds, and pictures with odd seeds."""
    even = table.picture % 2 == 0
    return table.where(even), table.where(~even)
