"""From signals to probabilities: fitted, measured on other pictures, saved, refused where they do not belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from saliency_guard import CalibrationMismatchError, Calibrator, ConfigError, InputError, TokenFilter
from saliency_guard.calibration.reliability import reliability


@pytest.fixture(scope="module")
def fitted() -> Calibrator:
    return Calibrator.fit(synthetic.records(600), features="signals")


@pytest.mark.parametrize("method", ["logistic", "platt", "isotonic"])
def test_probabilities_come_true_on_pictures_never_seen(method: str) -> None:
    fitted = Calibrator.fit(synthetic.records(600), method=method, features="signals")
    report = fitted.evaluate(synthetic.records(1500, seed=1, first=10_000))
    assert report.tokens is not None and report.answers is not None  # noqa: PT018
    # Two normals two standard deviations apart: the best AUROC there can be is Phi(sqrt 2) = 0.92.
    assert 0.90 < report.tokens.auroc < 0.94
    assert report.tokens.ece < 0.04
    assert report.answers.ece < 0.09
    assert report.answers.auroc > 0.8


def test_the_direction_of_a_signal_is_fitted() -> None:
    turned = Calibrator.fit(synthetic.records(400, strength=-2.0), features="signals")
    report = turned.evaluate(synthetic.records(400, seed=1, first=10_000, strength=-2.0))
    assert report.tokens is not None and report.tokens.auroc > 0.88  # noqa: PT018


def test_features_are_chosen_over_pictures_and_noise_is_not_chosen(fitted: Calibrator) -> None:
    chosen = Calibrator.fit(synthetic.records(200), held_out=0.0)
    assert chosen.groups[0] == "signals"
    assert chosen.report is None
    assert fitted.groups == ("signals",)
    assert fitted.report is not None and fitted.report.tokens.count > 100  # noqa: PT018


def test_answers_alone_may_be_labelled() -> None:
    fitted = Calibrator.fit(synthetic.records(600, labelled=False), features="signals")
    found = fitted.judge_record(synthetic.records(1).records[0])
    assert found.tokens == {}
    assert found.answer is not None
    report = fitted.evaluate(synthetic.records(800, seed=1, first=10_000))
    assert report.tokens is None
    assert report.answers.auroc > 0.75


def test_a_saved_calibration_says_the_same(fitted: Calibrator, tmp_path: Path) -> None:
    fitted.save(tmp_path / "calibrator.json")
    loaded = Calibrator.load(tmp_path / "calibrator.json")
    assert loaded == fitted
    one = synthetic.records(1, seed=5).records[0]
    assert loaded.judge_record(one) == fitted.judge_record(one)


def test_files_that_are_none_are_refused(tmp_path: Path, fitted: Calibrator) -> None:
    path = tmp_path / "calibrator.json"
    with pytest.raises(InputError, match="cannot read"):
        Calibrator.load(path)
    path.write_text('{"schema_version": 1}')
    with pytest.raises(InputError, match="no calibration of this version"):
        Calibrator.load(path)
    path.write_text(fitted.model_dump_json().replace('"schema_version":1', '"schema_version":2'))
    with pytest.raises(InputError, match="schema_version"):
        Calibrator.load(path)


@pytest.mark.parametrize("field", ["weights", "dtype", "template", "features_version"])
def test_another_models_records_are_refused_by_name_of_the_field(fitted: Calibrator, field: str) -> None:
    other = synthetic.FINGERPRINT.model_copy(update={field: 7 if field == "features_version" else "another"})
    with pytest.raises(CalibrationMismatchError, match=field) as caught:
        fitted.require(other)
    assert list(caught.value.differing) == [field]
    fitted.require(synthetic.FINGERPRINT.model_copy(update={"model_id": "renamed"}))


def test_too_few_labels_and_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="too few labels"):
        Calibrator.fit(synthetic.records(50, rate=0.0))
    with pytest.raises(ConfigError, match="held_out"):
        Calibrator.fit(synthetic.records(50), held_out=1.0)
    with pytest.raises(ConfigError, match="method"):
        Calibrator.fit(synthetic.records(50), method="magic")
    with pytest.raises(ConfigError, match="feature set"):
        Calibrator.fit(synthetic.records(50), features="magic")
    with pytest.raises(InputError, match="use the filter of the records"):
        Calibrator.fit(synthetic.records(50, labelled=False), token_filter=TokenFilter(count="all"))


def test_an_answer_in_which_nothing_counts_has_no_grounding(fitted: Calibrator) -> None:
    found = fitted.judge([" the", " the"], np.empty((2, 0)))
    assert found.answer is None
    assert found.tokens == {}


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_reliability_agrees_with_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    probability = np.array([one for one, _ in pairs])
    truth = np.array([one for _, one in pairs])
    found = reliability(probability, truth)
    assert found.brier == pytest.approx(brier_score_loss(truth, probability))
    assert sum(one.count for one in found.bins) == len(pairs)
    assert 0 <= found.ece <= 1
    if truth.any() and not truth.all():
        assert found.auroc == pytest.approx(roc_auc_score(truth, probability))
    else:
        assert found.auroc is None
