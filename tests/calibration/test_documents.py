"""Answers about text documents: a number where verification tells right from wrong, else the reason."""

from __future__ import annotations

import pytest
import synthetic
from pydantic import ValidationError

from saliency_guard import InputError, Records, VerifyConfig
from saliency_guard.calibration.documents import DocumentCalibration
from saliency_guard.calibration.fit import held_apart
from saliency_guard.calibration.results import CalibrationReport


@pytest.fixture(scope="module")
def fitted() -> DocumentCalibration:
    return DocumentCalibration.fit(synthetic.document_records(400))


def test_probabilities_come_true_on_documents_never_seen(fitted: DocumentCalibration) -> None:
    other = synthetic.document_records(1500, seed=1, first=10_000)
    judged = [fitted.judge_record(record) for record in other]
    values = [each.claims[0] for each in judged]
    truths = [record.claims[0].grounded for record in other]
    assert None not in values
    # Two normals two standard deviations apart: the best AUROC there can be is Phi(sqrt 2) = 0.92.
    assert fitted.auroc["statement"] == pytest.approx(0.92, abs=0.05)
    high = [truth for value, truth in zip(values, truths, strict=True) if value > 0.8]
    assert len(high) > 200
    assert sum(high) / len(high) > 0.85
    measured = CalibrationReport.of(other, fitted.judge_record).claims
    assert measured is not None
    assert measured.ece < 0.07
    assert fitted.report is not None
    assert fitted.report.claims == CalibrationReport.of(held_out(), fitted.judge_record).claims
    assert all(each.answer is not None and each.answer <= each.claims[0] for each in judged)


def held_out() -> Records:
    return held_apart(synthetic.document_records(400), 0.25, 0)[1]


def test_where_verification_tells_nothing_there_is_no_number_but_the_figure() -> None:
    blind = DocumentCalibration.fit(synthetic.document_records(300, tells=0.0))
    assert blind.kinds == ()
    assert blind.auroc["statement"] < 0.6
    judged = blind.judge(["statement"], [0.9], lengths=(100,))
    assert (judged.claims, judged.answer) == ((None,), None)
    assert f"does not tell true from wrong there (AUROC {blind.auroc['statement']:.2f}" in judged.reason


def test_what_it_does_not_cover_has_no_number_and_a_reason(fitted: DocumentCalibration) -> None:
    covered = fitted.judge(["statement"], [0.9], lengths=(120,))
    assert covered.reason is None
    assert covered.answer is not None
    cases = {
        "has 2 text documents, and the calibration was fitted on prompts with 1": (120, 120),
        "has 150 characters, and the calibration was fitted on documents of up to 149": (150,),
    }
    for reason, lengths in cases.items():
        judged = fitted.judge(["statement"], [0.9], lengths=lengths)
        assert (judged.claims, judged.answer) == ((None,), None)
        assert reason in judged.reason
    assert "does not cover (yes_no)" in fitted.judge(["yes_no"], [0.9], lengths=(120,)).reason
    assert "makes no claim" in fitted.judge([], [], lengths=(120,)).reason


def test_a_kind_that_is_told_apart_does_not_lend_its_number_to_one_that_is_not() -> None:
    told = synthetic.document_records(200)
    blind = synthetic.document_records(200, seed=1, first=1000, tells=0.0, kind="yes_no")
    fitted = DocumentCalibration.fit(Records(told.fingerprint, [*told, *blind], verify=told.verify))
    assert set(fitted.auroc) == {"statement", "yes_no"}
    assert [each.kind for each in fitted.kinds] == ["statement"]


def test_records_of_other_prompts_are_refused() -> None:
    records = synthetic.document_records(20)
    with pytest.raises(InputError, match="were not verified"):
        DocumentCalibration.fit(Records(records.fingerprint, records))
    for pictures, lengths in ((1, (100,)), (1, ())):
        strange = records.records[0].model_copy(update={"pictures": pictures, "document_lengths": lengths})
        mixed = Records(records.fingerprint, [strange, *records], verify=VerifyConfig())
        with pytest.raises(InputError, match="fitted on prompts with documents alone"):
            DocumentCalibration.fit(mixed)


def test_models_of_other_features_are_refused(fitted: DocumentCalibration) -> None:
    (claims,) = fitted.kinds
    names = ("median", "mean", "scale", "coefficient")
    shorter = claims.model.model_copy(update={name: getattr(claims.model, name)[1:] for name in names})
    values = dict(fitted)
    with pytest.raises(ValidationError, match="verification has 3"):
        DocumentCalibration(**{**values, "kinds": (claims.model_copy(update={"model": shorter}),)})
    with pytest.raises(ValidationError, match="holds one twice"):
        DocumentCalibration(**{**values, "kinds": (claims, claims)})
    with pytest.raises(ValidationError, match="an answer has 6"):
        DocumentCalibration(**{**values, "answer_model": claims.model})
