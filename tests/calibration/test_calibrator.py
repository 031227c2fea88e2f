"""From signals to probabilities: fitted, measured on other pictures, saved, refused where they do not belong."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from saliency_guard import (
    CalibrationMismatchError,
    Calibrator,
    ConfigError,
    GroundingRecord,
    InputError,
    Records,
    VerifyConfig,
)
from saliency_guard.calibration.calibrator import CALIBRATOR_FILE, NO_DOCUMENTS
from saliency_guard.calibration.features import FEATURE_SETS, SUMMARIES
from saliency_guard.calibration.records import encoded
from saliency_guard.embedded import EMBEDDED_PATH


@pytest.fixture(scope="module")
def plain() -> Records:
    return synthetic.records(600)


@pytest.fixture(scope="module")
def never_seen() -> Records:
    return synthetic.records(1500, seed=1, first=10_000)


@pytest.fixture(scope="module")
def fitted(plain: Records) -> Calibrator:
    return Calibrator.fit(plain, features="signals")


@pytest.mark.parametrize("method", ["logistic", "platt", "isotonic"])
def test_probabilities_come_true_on_pictures_never_seen(method: str, plain: Records, never_seen: Records) -> None:
    fitted = Calibrator.fit(plain, method=method, features="signals")
    report = fitted.evaluate(never_seen)
    assert report.claims is not None and report.answers is not None  # noqa: PT018
    # Two normals two standard deviations apart: the best AUROC there can be is Phi(sqrt 2) = 0.92.
    assert 0.90 < report.claims.auroc < 0.94
    assert report.claims.ece < 0.04
    assert report.kinds == {"object": report.claims}
    assert report.refused == 0.0
    assert report.answers.ece < 0.09
    assert report.answers.auroc > 0.8


def test_the_direction_of_a_signal_is_fitted() -> None:
    turned = Calibrator.fit(synthetic.records(400, strength=-2.0), features="signals")
    report = turned.evaluate(synthetic.records(400, seed=1, first=10_000, strength=-2.0))
    assert report.claims is not None and report.claims.auroc > 0.88  # noqa: PT018


def test_features_are_chosen_over_pictures_and_noise_is_not_chosen(fitted: Calibrator) -> None:
    chosen = Calibrator.fit(synthetic.records(200), held_out=0.0)
    assert chosen.groups[0] == "signals"
    assert chosen.report is None
    assert fitted.groups == ("signals",)
    assert fitted.report is not None and fitted.report.claims.count > 100  # noqa: PT018


def test_answers_alone_may_be_labelled() -> None:
    fitted = Calibrator.fit(synthetic.records(600, labelled=False), features="signals")
    judged = fitted.judge_record(synthetic.records(1).records[0])
    assert set(judged.claims) == {None}
    assert judged.answer is not None
    report = fitted.evaluate(synthetic.records(800, seed=1, first=10_000))
    assert report.claims is None
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
    path.write_text('{"schema_version": 2}')
    with pytest.raises(InputError, match="no calibration of this version"):
        Calibrator.load(path)
    path.write_text(fitted.model_dump_json().replace('"schema_version":2', '"schema_version":1'))
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
    with pytest.raises(InputError, match="at least 40 are needed"):
        Calibrator.fit(synthetic.records(50), domain=True)


def test_what_the_calibration_does_not_cover_has_no_number_and_a_reason(fitted: Calibrator) -> None:
    row = np.zeros((1, len(SUMMARIES)))
    cases = {
        "makes no claim": fitted.judge([], np.empty((0, 0))),
        "does not cover (place)": fitted.judge(["object", "place"], np.concatenate([row, row])),
        "has 2 pictures, and the calibration was fitted on prompts with 1": fitted.judge(["object"], row, pictures=2),
    }
    for reason, judged in cases.items():
        assert judged.answer is None
        assert reason in judged.reason
    assert fitted.judge(["object"], row).reason is None
    known, unknown = fitted.judge(["object", "place"], np.concatenate([row, row])).claims
    assert known is not None
    assert unknown is None


def test_claims_without_labels_of_whole_answers_leave_answers_open() -> None:
    labelled = synthetic.records(300)
    unknown = [record.model_copy(update={"grounded": None}) for record in labelled]
    fitted = Calibrator.fit(Records(labelled.fingerprint, unknown), features="signals")
    judged = fitted.judge_record(labelled.records[0])
    assert judged.answer is None
    assert "says nothing about whole answers" in judged.reason
    assert all(value is not None for value in judged.claims)


def test_pictures_unlike_those_of_the_records_get_no_number() -> None:
    rng = np.random.default_rng(0)

    def placed(record: GroundingRecord, at: float) -> GroundingRecord:
        return record.model_copy(update={"domain": (encoded(rng.normal(at, 1.0, size=8)),)})

    records = synthetic.records(300)
    near = Records(records.fingerprint, [placed(record, 0.0) for record in records])
    fitted = Calibrator.fit(near, features="signals")
    assert fitted.domain is not None
    usual = [fitted.judge_record(placed(record, 0.0)) for record in synthetic.records(200, first=1000)]
    far = [fitted.judge_record(placed(record, 5.0)) for record in synthetic.records(50, first=2000)]
    assert sum(judged.answer is None for judged in usual) / len(usual) < 0.15
    assert all(judged.answer is None for judged in far)
    assert all("unlike those the calibration was fitted on" in judged.reason for judged in far)
    assert all(set(judged.claims) == {None} for judged in far)
    unknown = fitted.judge_record(synthetic.records(1).records[0])
    assert unknown.answer is None
    assert "not known" in unknown.reason
    # Of several pictures one is easily unusual: not more prompts are refused for that.
    several = fitted.model_copy(update={"pictures": (1, 2, 3, 4)})
    record = synthetic.records(1).records[0]
    kinds, features = [claim.kind for claim in record.claims], record.features(fitted.groups)
    prompts = [rng.normal(0.0, 1.0, size=(4, 8)) for _ in range(300)]
    refused = [several.judge(kinds, features, pictures=4, domain=shown).answer is None for shown in prompts]
    assert np.mean(refused) < 0.12
    prompts[0][2] += 5.0
    judged = several.judge(kinds, features, pictures=4, domain=prompts[0])
    assert "picture 3 is unlike" in judged.reason


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"intercept":', '"intercept":NaN,"intercept":', "NaN is no finite number"),
        ('"intercept":', '"intercept":1e999,"intercept":', "1e999 is no finite number"),
        ('"intercept":', '"intercept":0.0,"intercept":', "'intercept' is named twice"),
        ('"schema_version":2', '"schema_version":3', "schema_version"),
        ('{"schema_version":2', "[" * 100_000 + '{"schema_version":2', "no calibration"),
    ],
)
def test_json_that_readers_disagree_about_is_refused(
    fitted: Calibrator, tmp_path: Path, before: str, after: str, said: str
) -> None:
    path = tmp_path / "calibrator.json"
    text = fitted.model_dump_json()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(InputError, match=said):
        Calibrator.load(path)
    path.write_text(text + "}")
    with pytest.raises(InputError, match="no calibration of this version"):
        Calibrator.load(path)


def rebuilt(calibrator: Calibrator, **changes: Any) -> Calibrator:
    return Calibrator(**{name: changes.get(name, getattr(calibrator, name)) for name in type(calibrator).model_fields})


@pytest.mark.parametrize(
    "groups", [(), ("evidence", "signals"), ("verification", "signals"), ("signals", "magic"), ("signals", "signals")]
)
def test_groups_that_are_no_feature_set_in_order_are_refused(fitted: Calibrator, groups: tuple[str, ...]) -> None:
    assert rebuilt(fitted) == fitted
    with pytest.raises(ValidationError, match="no feature set"):
        rebuilt(fitted, groups=groups)


def test_features_that_are_not_those_of_the_groups_are_refused(fitted: Calibrator) -> None:
    def shorter(model: Any, by: int) -> Any:
        names = ("median", "mean", "scale", "coefficient")
        return model.model_copy(update={name: getattr(model, name)[by:] for name in names})

    (claims,) = fitted.kinds
    assert len(claims.model.median) == len(SUMMARIES)
    for changes in (
        {"groups": FEATURE_SETS["evidence"], "verify": VerifyConfig()},
        {"kinds": (claims.model_copy(update={"model": shorter(claims.model, 1)}),)},
        {"answer_model": shorter(fitted.answer_model, 1)},
        {"answer_model": claims.model},
    ):
        with pytest.raises(ValidationError, match=r"features, and"):
            rebuilt(fitted, **changes)
    with pytest.raises(ValidationError, match="need verify"):
        rebuilt(fitted, groups=FEATURE_SETS["verified"])
    with pytest.raises(ValidationError, match="holds one twice"):
        rebuilt(fitted, kinds=(claims, claims))


EMBEDDED = json.loads((EMBEDDED_PATH / CALIBRATOR_FILE).read_text())


def places(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where the numbers of a JSON value stand."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from places(part, *path, name)
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from places(part, *path, at)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


PLACES = list(places(EMBEDDED))
KINDS = sorted({tuple(part for part in path if isinstance(part, str)) for path in PLACES})


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_one_wrong_number_anywhere_is_refused_or_changes_nothing_in_kind(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))  # Every field as often as the long lists of numbers.
    path = data.draw(st.sampled_from([item for item in PLACES if tuple(p for p in item if isinstance(p, str)) == kind]))
    wrong = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, -1, 0, 1e308, -1e308, 1e-308]))
    changed = json.loads(json.dumps(EMBEDDED))
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = wrong
    with TemporaryDirectory() as folder:
        file = Path(folder, CALIBRATOR_FILE)
        file.write_text(json.dumps(changed))
        try:
            calibrator = Calibrator.load(file)
        except InputError:
            return
    assert np.isfinite(wrong)
    first = calibrator.kinds[0]
    rows = np.random.default_rng(0).normal(size=(6, len(first.model.median)))
    rows = rows * [[1], [1e6], [1e38], [0], [np.nan], [-1e38]]
    judged = calibrator.model_copy(update={"domain": None}).judge(
        [first.kind] * 6, rows, pictures=calibrator.pictures[0]
    )
    assert judged.answer is not None
    assert all(0.0 <= value <= 1.0 for value in (judged.answer, *judged.claims))


def test_a_calibration_is_copied_and_sent(fitted: Calibrator) -> None:
    one = synthetic.records(1, seed=5).records[0]
    for again in (copy.copy(fitted), copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):  # noqa: S301
        assert again == fitted
        assert again.judge_record(one) == fitted.judge_record(one)


def test_answers_about_documents_are_fitted_apart_and_change_nothing_else(
    fitted: Calibrator, plain: Records, tmp_path: Path
) -> None:
    documents = synthetic.document_records(200)
    both = fitted.with_documents(documents)
    assert both.model_copy(update={"documents": None}) == fitted
    together = Calibrator.fit(
        Records(plain.fingerprint, [*plain, *documents], verify=documents.verify), features="signals"
    )
    assert together.documents == both.documents
    assert together.model_copy(update={"documents": None, "verify": None}) == fitted
    record = documents.records[0]
    judged = both.judge_record(record)
    assert judged.answer is not None
    assert judged == both.documents.judge_record(record)
    both.save(tmp_path / "both.json")
    loaded = Calibrator.load(tmp_path / "both.json")
    assert loaded == both
    assert loaded.judge_record(record) == judged
    # A guarantee must not be tested on any of them.
    assert loaded.digests == set(fitted.fitted_on.digests) | set(both.documents.fitted_on.digests)


def test_a_file_without_documents_says_nothing_of_them(fitted: Calibrator, tmp_path: Path) -> None:
    old = json.loads(fitted.model_dump_json())
    del old["documents"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    judged = Calibrator.load(tmp_path / "old.json").judge_record(synthetic.document_records(1).records[0])
    assert (judged.claims, judged.answer, judged.reason) == ((None,), None, NO_DOCUMENTS)


def test_documents_of_another_model_are_refused(fitted: Calibrator) -> None:
    records = synthetic.document_records(20)
    other = synthetic.FINGERPRINT.model_copy(update={"weights": "another"})
    with pytest.raises(CalibrationMismatchError, match="weights"):
        fitted.with_documents(Records(other, records, verify=records.verify))


def strange(count: int, first: int, seed: int, *, redrawn: bool) -> list[GroundingRecord]:
    """Answers about pictures that are hardly recognised, which are wrong more often."""
    rng = np.random.default_rng(seed)
    unsure = [rng.normal(loc=3.0, size=20) for _ in range(count)]
    made = synthetic.records(count, seed=seed, rate=0.7, first=first)
    return [
        record.model_copy(update={"domain": (encoded(row),), "redrawn": redrawn})
        for record, row in zip(made, unsure, strict=True)
    ]


def test_what_redrawn_pictures_teach_holds_for_strange_ones_and_leaves_the_usual_ones_alone() -> None:
    rng = np.random.default_rng(7)

    def usual(count: int, first: int, seed: int) -> list[GroundingRecord]:
        made = synthetic.records(count, seed=seed, rate=0.2, first=first)
        return [record.model_copy(update={"domain": (encoded(rng.normal(size=20)),)}) for record in made]

    def records(*parts: list[GroundingRecord]) -> Records:
        made = [record for part in parts for record in part]
        return Records(synthetic.FINGERPRINT, made, verify=VerifyConfig())

    seen, drawn = usual(300, 0, 1), strange(300, 10_000, 2, redrawn=True)
    plain = Calibrator.fit(records(seen), features="verified", domain=False)
    taught = Calibrator.fit(records(seen, drawn), features="recognised", domain=False)
    others, met = records(usual(400, 20_000, 3)), records(strange(400, 30_000, 4, redrawn=False))
    before, after = plain.evaluate(met).claims, taught.evaluate(met).claims
    assert before is not None
    assert after is not None
    assert before.ece > 0.2
    assert after.ece < 0.08
    known = taught.evaluate(others).claims
    assert known is not None
    assert known.ece < 0.05
    # The report is about usual pictures alone, and so is what is covered.
    assert plain.report is not None
    assert taught.report is not None
    assert plain.report.claims is not None
    assert taught.report.claims is not None
    assert taught.report.claims.count == plain.report.claims.count
    assert taught.evaluate(records(seen, drawn)) == taught.evaluate(records(seen))
    gated, gated_alone = (
        Calibrator.fit(each, features="recognised", domain=True) for each in (records(seen, drawn), records(seen))
    )
    assert gated.domain == gated_alone.domain
    assert gated.kinds == gated_alone.kinds  # None of the strange ones is covered: nothing is learnt from them.
