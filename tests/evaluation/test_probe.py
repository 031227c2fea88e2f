"""Logistic models on mentions."""

from __future__ import annotations

import numpy as np
from mention_table import synthetic

from saliency_guard.evaluation import probe
from saliency_guard.evaluation.detection import RELEASED, SCALARS
from saliency_guard.signals import PRIORS


def test_no_picture_is_fitted_and_tested_on() -> None:
    table = synthetic(9, 0)
    fitting, testing = probe.halves(table)
    assert not set(fitting.picture) & set(testing.picture)
    assert len(fitting) + len(testing) == len(table)


def test_every_signal_is_in_one_group_of_features() -> None:
    table = synthetic(1, 0)
    table.signals[:] = np.arange(len(SCALARS))
    found = [int(v) for name in (*probe.SINGLE_SIGNALS,) for v in probe.FEATURES[name](table)[0]]
    assert sorted(found) == [index for index, name in enumerate(SCALARS) if name not in {*PRIORS, RELEASED}]


def test_the_strength_is_chosen_by_cross_validation() -> None:
    search = probe.fit(synthetic(24, 0), ("saliency by head",))
    assert search.best_params_["logisticregression__C"] in probe.STRENGTHS
    assert len(search.cv_results_["mean_test_score"]) == len(probe.STRENGTHS)
    assert search.n_splits_ == probe.FOLDS
