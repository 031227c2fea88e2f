"""Fitting: always on some pictures and tested on others, as plain numbers that say what scikit-learn says."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic

from saliency_guard import ConfigError, InputError, Records
from saliency_guard.calibration import fit
from saliency_guard.calibration.features import FEATURE_SETS
from saliency_guard.calibration.records import encoded

RNG = np.random.default_rng(0)
TRUTH = RNG.random(200) < 0.6
FEATURES = RNG.normal(size=(200, 3)) + np.outer(TRUTH, [1.5, 0.0, -1.0])
PICTURES = np.array([f"picture {index // 4}" for index in range(200)])


@pytest.fixture(autouse=True)
def single_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search over strengths takes most of the time; one test below is about it."""
    monkeypatch.setattr(fit, "STRENGTHS", (0.1,))


def test_the_strength_with_the_least_loss_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(5).normal(size=(80, 30))
    labels = np.arange(80) % 2 == 0
    monkeypatch.setattr(fit, "STRENGTHS", (10.0, 0.001))
    assert fit.out_of_fold(noise, labels, np.arange(80).astype(str))[0] == 0.001


def test_a_picture_is_in_one_fold_and_every_fold_has_both_kinds() -> None:
    fold = fit.folds(TRUTH, PICTURES)
    assert set(fold.tolist()) == set(range(fit.FOLDS))
    assert all(len(set(fold[picture == PICTURES].tolist())) == 1 for picture in np.unique(PICTURES))
    assert all(set(TRUTH[fold == index].tolist()) == {True, False} for index in range(fit.FOLDS))


def test_odds_are_given_by_models_that_never_saw_the_picture() -> None:
    """A feature that names the picture and a label that is the picture's: only who saw it can know."""
    names = np.arange(40).repeat(2)
    labels = np.random.default_rng(1).permutation(np.arange(40) % 2 == 0).repeat(2)
    features = np.eye(40)[names]
    _, odds = fit.out_of_fold(features, labels, names.astype(str))
    assert fit.loss(odds, labels) > 0.65
    seen = fit.fit_linear(features, labels, 1.0).log_odds(features)
    assert fit.loss(seen, labels) < 0.6


def test_the_plain_numbers_say_what_scikit_learn_says() -> None:
    features = FEATURES.copy()
    features[::7, 1] = np.nan
    model = fit.fit_linear(features, TRUTH, 0.1)
    expected = fit.logistic(0.1).fit(features, TRUTH).decision_function(features)
    np.testing.assert_allclose(model.log_odds(features), expected, atol=1e-9)


def test_the_loss_is_the_mean_negative_log_likelihood() -> None:
    odds = np.array([0.0, 2.0, -3.0])
    probability = 1 / (1 + np.exp(-odds))
    expected = -np.log([probability[0], 1 - probability[1], 1 - probability[2]]).mean()
    assert fit.loss(odds, np.array([True, False, False])) == pytest.approx(expected)


@pytest.mark.parametrize("method", ["logistic", "platt", "isotonic"])
def test_a_map_makes_probabilities_that_rise_with_the_odds(method: fit.Method) -> None:
    odds = np.linspace(-4, 4, 400)
    truth = np.random.default_rng(2).random(400) < 1 / (1 + np.exp(-odds / 2))
    probability = fit.fit_map(odds, truth, method).probability(odds)
    assert bool((np.diff(probability) >= -1e-12).all())
    assert probability[-1] > probability[0]
    if method != "logistic":  # That one believes the odds, which are twice too sure here.
        assert probability.mean() == pytest.approx(truth.mean(), abs=1e-3)


def test_no_isotonic_map_goes_through_a_single_point() -> None:
    with pytest.raises(InputError, match="the same log-odds"):
        fit.fit_map(np.zeros(20), np.arange(20) % 2 == 0, "isotonic")


def test_both_kinds_must_come_from_pictures_for_every_fold() -> None:
    labels = np.array([True, False] * 4)
    assert fit.enough(labels, np.arange(8).astype(str))
    assert not fit.enough(labels, np.array(["a", "b", "c", "c"] * 2))
    with pytest.raises(InputError, match=r"object claims are grounded and 0 are not.*at least 4 pictures"):
        fit.fit_claims(synthetic.records(20, rate=0.0), ("signals",))


def test_every_kind_with_labels_enough_has_a_model_of_its_own() -> None:
    rng = np.random.default_rng(3)
    rows = [
        synthetic.record(number, [bool(rng.random() < 0.6)], rng, kind=kind)
        for number in range(40)
        for kind in ("object", "place")
    ]
    rows.append(synthetic.record(90, [True], rng, kind="number"))  # One label is not enough.
    records = Records(synthetic.FINGERPRINT, rows)
    fits = fit.fit_claims(records, ("signals",))
    assert [kind.kind for kind in fits.kinds] == ["object", "place"]
    assert fits.labelled
    assert all(len(kind.by_fold) == 40 for kind in fits.kinds)
    expected = np.mean([fit.loss(kind.odds, kind.table.grounded) for kind in fits.kinds])
    assert fit.tried(records, ("signals",)).loss == pytest.approx(expected)


def test_only_the_feature_set_that_wins_gets_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    records = synthetic.records(60)
    fitted: list[int] = []
    fit_linear = fit.fit_linear

    def counted(features: fit.Floats, *arguments: object) -> object:
        fitted.append(features.shape[1])
        return fit_linear(features, *arguments)

    monkeypatch.setattr(fit, "fit_linear", counted)
    fits = fit.fit_claims(records, ("signals",), ("signals", "evidence"))
    losses = {groups: fit.tried(records, groups).loss for groups in (("signals",), ("signals", "evidence"))}
    assert fits.groups == min(losses, key=lambda groups: losses[groups])
    assert len(fitted) == fit.FOLDS + 1
    assert len(set(fitted)) == 1


def test_records_of_two_models_do_not_mix() -> None:
    records = synthetic.records(30)
    changed = records.records[0]
    vectors = {name: encoded(np.zeros((len(changed.claims), 5))) for name in changed.vectors}
    mixed = Records(records.fingerprint, [*records, changed.model_copy(update={"vectors": vectors})])
    with pytest.raises(InputError, match="not all of one model"):
        fit.claim_tables(mixed, ("signals", "saliency"), labelled=True)


def test_only_feature_sets_that_all_records_have_are_tried() -> None:
    records = synthetic.records(10)
    assert fit.feature_choices(records, "evidence") == [FEATURE_SETS["evidence"]]
    assert fit.feature_choices(records, None) == [FEATURE_SETS["signals"]]  # Nothing was verified.
    with pytest.raises(ConfigError, match="no feature set is called 'magic'; there are: signals"):
        fit.feature_choices(records, "magic")


def test_whole_answers_are_fitted_on_what_other_pictures_models_say() -> None:
    records = synthetic.records(100)
    fits = fit.fit_claims(records, ("signals",))
    answers = fit.fit_answers(records, fits)
    assert answers is not None
    assert len(answers.odds) == 100
    assert fit.loss(answers.odds, answers.grounded) < np.log(2)
    unlabelled = [record.model_copy(update={"grounded": None}) for record in records]
    assert fit.fit_answers(Records(records.fingerprint, unlabelled), fits) is None


def test_numbers_of_pictures_count_from_twenty_records_on() -> None:
    assert fit.frequent([1] * 30 + [2] * 19) == (1,)
    assert fit.frequent([2] * 20 + [1] * 30) == (1, 2)
    assert fit.frequent([2] * 19) == (2,)


def test_pictures_are_held_apart() -> None:
    records = synthetic.records(40, draws=2)
    seen, tested = fit.held_apart(records, 0.25, 3)
    pictures = [{record.picture for record in part} for part in (seen, tested)]
    assert [len(part) for part in pictures] == [30, 10]
    assert not pictures[0] & pictures[1]
    assert len(seen) + len(tested) == len(records) == 80
    assert [record.picture for record in fit.held_apart(records, 0.25, 4)[1]] != [record.picture for record in tested]
    assert len(fit.held_apart(records, 0.0, 3)[1]) == 0
    with pytest.raises(ConfigError, match="held_out"):
        fit.held_apart(records, 1.0, 0)


def test_a_domain_is_fitted_where_there_are_pictures_enough() -> None:
    rng = np.random.default_rng(4)
    records = synthetic.records(60)
    placed = [record.model_copy(update={"domain": (encoded(rng.normal(size=8)),)}) for record in records]
    known = Records(records.fingerprint, placed)
    assert fit.fit_domain(known, required=None) is not None
    assert fit.fit_domain(known, required=False) is None
    assert fit.fit_domain(Records(records.fingerprint, placed[:10]), required=None) is None
    with pytest.raises(InputError, match="are needed"):
        fit.fit_domain(Records(records.fingerprint, placed[:10]), required=True)
