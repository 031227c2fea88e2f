"""Answers about text documents: how probable their claims are, by what the model says of each one and its documents.

A claim is verified against every document by itself (`Verifier`), so that nothing but that is known of it: no signal of
a picture's calibration is used. A kind of claims has a probability only where verification tells true from wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from saliency_guard.calibration import fit as fitting
from saliency_guard.calibration.claim_models import ClaimModel, judge_claims, require_single_models
from saliency_guard.calibration.features import VERIFICATION, verification_rows
from saliency_guard.calibration.fit import ClaimFits, Method
from saliency_guard.calibration.fitted_on import FittedOn
from saliency_guard.calibration.linear import LinearModel, ProbabilityMap
from saliency_guard.calibration.records import GroundingRecord, Records
from saliency_guard.calibration.reliability import auroc
from saliency_guard.calibration.results import CalibrationReport, Judgement
from saliency_guard.claims.extract import ClaimKind
from saliency_guard.errors import InputError
from saliency_guard.settings import Frozen, Probability
from saliency_guard.signals.verification import VerifyConfig

LEAST_AUROC = 0.75
"""How well a kind of claims has to be told right from wrong to have a probability."""
_FEATURES = verification_rows([0.5], 1).shape[1]


class DocumentCalibration(Frozen):
    """From the verification of claims about text documents to the probability that they are true.

    Attributes:
        fitted_on: what it was fitted on.
        verify: how claims are verified.
        kinds: a model for each kind of claim that verification tells right from wrong; may be empty.
        claims_labelled: as in `Calibrator`.
        answer_model: as in `Calibrator`.
        answer_map: as in `Calibrator`.
        auroc: how well verification tells right from wrong, for every kind of claim with labels enough, on documents
            that the model of it was not fitted on.
        counts: numbers of documents in a prompt that it covers.
        longest: characters of the longest document that it covers.
        report: on prompts held out.
    """

    fitted_on: FittedOn
    verify: VerifyConfig
    kinds: tuple[ClaimModel, ...] = ()
    claims_labelled: bool = True
    answer_model: LinearModel | None = None
    answer_map: ProbabilityMap = ProbabilityMap()
    auroc: Annotated[dict[ClaimKind, Probability], Field(min_length=1)]
    counts: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    longest: Annotated[int, Field(ge=1)]
    report: CalibrationReport | None = None

    @model_validator(mode="after")
    def _check(self) -> DocumentCalibration:
        require_single_models(self)
        sizes = {len(each.model.median) for each in self.kinds} - {_FEATURES}
        if sizes:
            msg = f"the models of claims have {sorted(sizes)} features, and verification has {_FEATURES}"
            raise ValueError(msg)
        return self

    @classmethod
    def fit(
        cls,
        records: Records,
        *,
        method: Method = "logistic",
        held_out: float = 0.25,
        source: str = "labelled records",
        seed: int = 0,
    ) -> DocumentCalibration:
        """Fit on labelled answers about text documents; arguments and errors as for `Calibrator.with_documents`."""
        fitting.require_scikit_learn()
        fitting.require_method(method)
        if records.verify is None:
            msg = "the records' claims were not verified, and nothing else is known of claims about text documents"
            raise InputError(msg)
        strange = next((record for record in records if record.pictures or not record.documents), None)
        if strange is not None:
            msg = (
                f"the prompt of record {strange.picture!r} has {strange.pictures} pictures and {strange.documents} "
                "text documents: a calibration for documents is fitted on prompts with documents alone"
            )
            raise InputError(msg)
        seen, tested = fitting.held_apart(records, held_out, seed)
        claims = fitting.fit_claims(seen, (VERIFICATION,))
        aurocs = {each.kind: float(auroc(each.odds, each.table.grounded)[0]) for each in claims.kinds}
        telling = tuple(each for each in claims.kinds if aurocs[each.kind] >= LEAST_AUROC)
        claims = ClaimFits(claims.groups, telling, claims.labelled)
        fitted = cls(
            fitted_on=FittedOn.of(records, source),
            verify=records.verify,
            **fitting.fitted_models(claims, fitting.fit_answers(seen, claims), method),
            auroc=aurocs,
            counts=fitting.frequent(record.documents for record in seen),
            longest=max(max(record.document_lengths) for record in seen),
        )
        if not len(tested):
            return fitted
        return fitted.model_copy(update={"report": CalibrationReport.of(tested, fitted.judge_record)})

    def judge(
        self, kinds: Sequence[ClaimKind], verified: Sequence[float | None], *, lengths: Sequence[int]
    ) -> Judgement:
        """What the calibration says of an answer.

        Args:
            kinds: of its claims.
            verified: of each claim the model's own probability that it holds, as in `Claim.verified`.
            lengths: characters of each document of the prompt.
        """
        reason = self._not_covered(lengths)
        if reason is not None:
            return Judgement(claims=(None,) * len(kinds), answer=None, reason=reason)
        return judge_claims(self, kinds, verification_rows(verified, len(lengths)))

    def _not_covered(self, lengths: Sequence[int]) -> str | None:
        if not self.kinds:
            best = max(self.auroc.values())
            return (
                "the answer is about text documents, and asked about a claim, the model does not tell true from wrong "
                f"there (AUROC {best:.2f}; {LEAST_AUROC} is needed for a number)"
            )
        if len(lengths) not in self.counts:
            counts = ", ".join(map(str, self.counts))
            return (
                f"the prompt has {len(lengths)} text documents, and the calibration was fitted on prompts with {counts}"
            )
        if max(lengths) > self.longest:
            return (
                f"a text document has {max(lengths)} characters, and the calibration was fitted on documents of up to "
                f"{self.longest}"
            )
        return None

    def judge_record(self, record: GroundingRecord) -> Judgement:
        """What the calibration says of a labelled answer, labels unseen."""
        return self.judge(
            [claim.kind for claim in record.claims],
            [claim.verified for claim in record.claims],
            lengths=record.document_lengths,
        )
