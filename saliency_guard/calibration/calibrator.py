"""Raw signals to a probability that a claim, and a whole answer, is grounded; or to the reason why there is none.

A logistic model per kind of claim is fitted on labelled claims. An answer's probability comes from a second, small one,
of what the first says of all claims. Directions and weights are fitted, none is assumed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field, model_validator

from saliency_guard.calibration import fit as fitting
from saliency_guard.calibration.claim_models import ClaimModel, judge_claims, require_single_models
from saliency_guard.calibration.documents import DocumentCalibration
from saliency_guard.calibration.domain import Domain, prompt_p_value
from saliency_guard.calibration.features import (
    FEATURE_SETS,
    RECOGNISED,
    RECOGNISED_SIZE,
    SUMMARIES,
    VERIFICATION,
    Floats,
)
from saliency_guard.calibration.fingerprint import Fingerprint
from saliency_guard.calibration.fit import Method
from saliency_guard.calibration.fitted_on import FittedOn
from saliency_guard.calibration.linear import LinearModel, ProbabilityMap
from saliency_guard.calibration.records import GroundingRecord, Records
from saliency_guard.calibration.redrawn import with_redrawn
from saliency_guard.calibration.repair_guarantee import choose_repair, repair_units
from saliency_guard.calibration.results import CalibrationReport, Judgement
from saliency_guard.claims.extract import ClaimKind
from saliency_guard.claims.repair import REPAIR_KINDS, RepairGuarantee
from saliency_guard.errors import CalibrationMismatchError
from saliency_guard.scenes.claims import Extractor, extractor_of
from saliency_guard.settings import Frozen, OpenProbability
from saliency_guard.signals.verification import VerifyConfig
from saliency_guard.storage import load_model, save_model

CALIBRATOR_FILE = "calibrator.json"
"""The calibration in a model's folder, used where there is one."""

REPAIR_RISKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Risks that repairs are tested for."""
FRACTION_LIMIT = 0.1
"""For repairs that bound how often the wrong fraction is above a limit."""
NO_DOCUMENTS = "the answer is about text documents, and the calibration was fitted on answers about pictures"
LEVEL = 0.05
"""The part of pictures like the fitted ones that the domain gate refuses."""


class Calibrator(Frozen):
    """From signals to the probability of being grounded, for one model and one way of looking at it.

    Attributes:
        schema_version: of the file.
        fingerprint: what it belongs to.
        fitted_on: what it was fitted on.
        extractor: what takes answers apart.
        verify: how claims are verified; None where they are not.
        groups: the features it uses.
        kinds: a model for each kind of claim that it covers.
        claims_labelled: whether claims were labelled; else only whole answers have a probability.
        answer_model: log-odds of an answer, from those of its claims; None where whole answers were not labelled.
        answer_map: their probability.
        pictures: numbers of pictures in a prompt that it covers.
        domain: the pictures it covers; None covers all.
        level: p-value of a picture below which it is not covered.
        repairs: thresholds for repairs, tested on the pictures held out; one guarantee of each kind and risk.
        report: on pictures held out.
        documents: for answers about text documents; None covers none.
    """

    schema_version: Literal[2] = 2
    fingerprint: Fingerprint
    fitted_on: FittedOn
    extractor: Extractor = "english"
    verify: VerifyConfig | None = None
    groups: tuple[str, ...]
    kinds: Annotated[tuple[ClaimModel, ...], Field(min_length=1)]
    claims_labelled: bool = True
    answer_model: LinearModel | None = None
    answer_map: ProbabilityMap = ProbabilityMap()
    pictures: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1,)
    domain: Domain | None = None
    level: OpenProbability = LEVEL
    repairs: tuple[RepairGuarantee, ...] = ()
    report: CalibrationReport | None = None
    documents: DocumentCalibration | None = None

    @model_validator(mode="after")
    def _check(self) -> Calibrator:
        """Numbers that belong to other features would be multiplied without complaint."""
        if self.groups not in FEATURE_SETS.values():
            known = "; ".join(", ".join(groups) for groups in FEATURE_SETS.values())
            msg = f"groups={list(self.groups)} are no feature set; the sets are, in this order: {known}"
            raise ValueError(msg)
        if VERIFICATION in self.groups and self.verify is None:
            msg = f"groups={list(self.groups)} need verify"
            raise ValueError(msg)
        require_single_models(self)
        counts = {len(each.model.median) for each in self.kinds}
        known_sizes = {"signals": len(SUMMARIES), VERIFICATION: 3, RECOGNISED: RECOGNISED_SIZE}
        least = sum(known_sizes.get(group, 1) for group in self.groups)
        exact = set(self.groups) <= known_sizes.keys()
        if len(counts) != 1 or min(counts) < least or (exact and min(counts) != least):
            msg = (
                f"the models of claims have {sorted(counts)} features, and the groups {list(self.groups)} have {least}"
            )
            raise ValueError(msg)
        return self

    @classmethod
    def fit(
        cls,
        records: Records,
        *,
        method: Method = "logistic",
        features: str | None = None,
        extractor: Extractor = "english",
        domain: bool | None = None,
        held_out: float = 0.25,
        source: str = "labelled records",
        seed: int = 0,
    ) -> Calibrator:
        """Fit on labelled answers; one part of their pictures is held out for the report.

        Records of answers about text documents are fitted apart: see `with_documents`.

        Args:
            records: the answers, from `Records.load` or `saliency-guard records`.
            method: how log-odds become probabilities: ``"logistic"`` as they are, ``"platt"`` or ``"isotonic"``.
            features: one of `features.FEATURE_SETS`; None chooses by cross-validation over pictures.
            extractor: what took the answers apart.
            domain: whether to refuse pictures unlike those of the records; None does where there are pictures enough.
            held_out: part of the pictures that the report is on; 0 makes none.
            source: what to say it was fitted on.
            seed: of the choice of held-out pictures.

        Raises:
            ConfigError: if a setting is out of range.
            InputError: if there are too few labels of either kind, or too few pictures for ``domain=True``.
            MissingExtraError: if scikit-learn is not installed.
        """
        fitting.require_scikit_learn()
        fitting.require_method(method)
        documents = records.where(record.documents > 0 for record in records)
        records = records.where(record.documents == 0 for record in records)
        seen, tested = fitting.held_apart(records.usual, held_out, seed)
        covered = fitting.fit_domain(seen, required=domain)
        redrawn = records.where(record.redrawn for record in records)
        learnt = with_redrawn(seen, redrawn, covered, LEVEL)
        claims = fitting.fit_claims(learnt, *fitting.feature_choices(learnt, features))
        fitted = cls(
            fingerprint=records.fingerprint,
            fitted_on=FittedOn.of(records, source),
            extractor=extractor,
            verify=records.verify,
            groups=claims.groups,
            **fitting.fitted_models(claims, fitting.fit_answers(learnt, claims), method),
            pictures=fitting.frequent(record.pictures for record in seen),
            domain=covered,
        )
        if len(tested):
            repairs = fitted.repair_guarantees(tested) if find_spec("mapie") else ()
            fitted = fitted.model_copy(update={"report": fitted.evaluate(tested), "repairs": repairs})
        if not len(documents):
            return fitted
        return fitted.with_documents(documents, method=method, held_out=held_out, source=source, seed=seed)

    def with_documents(
        self,
        records: Records,
        *,
        method: Method = "logistic",
        held_out: float = 0.25,
        source: str = "labelled records",
        seed: int = 0,
    ) -> Calibrator:
        """The same calibration, which also covers answers about text documents; nothing else of it changes.

        Args:
            records: answers about text documents, from `Records.load` or `saliency-guard records --documents`.
            method: as for `fit`.
            held_out: part of the prompts that the report is on; 0 makes none.
            source: what to say it was fitted on.
            seed: of the choice of held-out prompts.

        Raises:
            ConfigError: if a setting is out of range.
            InputError: if there are too few labels of either kind, or a record has pictures, or was not verified.
            CalibrationMismatchError: if they are another model's.
            MissingExtraError: if scikit-learn is not installed.
        """
        self.require(records.fingerprint)
        documents = DocumentCalibration.fit(records, method=method, held_out=held_out, source=source, seed=seed)
        return self.model_copy(update={"documents": documents})

    def repair_guarantees(self, records: Records, *, confidence: float = 0.95) -> tuple[RepairGuarantee, ...]:
        """Thresholds for repairs: of each kind, for each of `REPAIR_RISKS` that the records guarantee.

        Args:
            records: labelled answers about pictures that the calibration was not fitted on.
            confidence: of each guarantee, taken by itself.

        Raises:
            MissingExtraError: if MAPIE is not installed.
        """
        records = records.usual
        judged = [self.judge_record(record).claims for record in records]
        extractor = extractor_of(self.extractor)
        claims = [extractor(record.answer.text, record.question) for record in records]
        units = repair_units(records.records, judged, claims)
        chosen = [
            choose_repair(
                units,
                risk=risk,
                kind=kind,
                limit=FRACTION_LIMIT if kind == "fraction_above" else None,
                confidence=confidence,
            )
            for kind in REPAIR_KINDS
            for risk in REPAIR_RISKS
        ]
        return tuple(guarantee for guarantee in chosen if guarantee is not None)

    def judge(
        self,
        kinds: Sequence[ClaimKind],
        features: Floats,
        *,
        pictures: int = 1,
        domain: Floats | None = None,
    ) -> Judgement:
        """What the calibration says of an answer.

        Args:
            kinds: of its claims.
            features: ``[claims, k]`` of the calibration's groups, one after the other.
            pictures: how many the prompt has.
            domain: ``[pictures, D + RECOGNITION + 1]``, see `saliency_guard.domain_features`; None where not known.
        """
        nothing = (None,) * len(kinds)
        if pictures not in self.pictures:
            counts = ", ".join(map(str, self.pictures))
            reason = f"the prompt has {pictures} pictures, and the calibration was fitted on prompts with {counts}"
            return Judgement(claims=nothing, answer=None, reason=reason)
        values: tuple[float, ...] = ()
        if self.domain is not None:
            if domain is None or len(domain) != pictures:
                reason = "it is not known whether the pictures are like those the calibration was fitted on"
                return Judgement(claims=nothing, answer=None, reason=reason)
            values = tuple(self.domain.p_values(domain, self._verified_odds(features)))
            p_value = prompt_p_value(values)
            if p_value < self.level:
                number = values.index(min(values))
                which = f"picture {number + 1}" if pictures > 1 else "the picture"
                by_looks = self.domain.looks_unlike(domain[number], self.level / pictures)
                what = (
                    f"{which} is unlike" if by_looks else f"the model is less sure of claims about {which} than about"
                )
                reason = f"{what} those the calibration was fitted on (p={p_value:.3f})"
                return Judgement(claims=nothing, answer=None, reason=reason, domain=values)
        return judge_claims(self, kinds, features, values)

    def _verified_odds(self, features: Floats) -> Floats | None:
        """``[claims]`` the verified log-odds among the features; None where there are none."""
        if VERIFICATION not in self.groups or not len(features):
            return None
        odds: Floats = features[:, len(SUMMARIES)]  # Every set with it has the summary signals before it.
        return odds

    def judge_documents(
        self, kinds: Sequence[ClaimKind], verified: Sequence[float | None], *, lengths: Sequence[int]
    ) -> Judgement:
        """What the calibration says of an answer about text documents; arguments as for `DocumentCalibration.judge`."""
        if self.documents is None:
            return Judgement(claims=(None,) * len(kinds), answer=None, reason=NO_DOCUMENTS)
        return self.documents.judge(kinds, verified, lengths=lengths)

    def judge_record(self, record: GroundingRecord) -> Judgement:
        """What the calibration says of a labelled answer, labels unseen."""
        if record.documents:
            return self.judge_documents(
                [claim.kind for claim in record.claims],
                [claim.verified for claim in record.claims],
                lengths=record.document_lengths,
            )
        features = record.domain_features
        return self.judge(
            [claim.kind for claim in record.claims],
            record.features(self.groups),
            pictures=record.pictures,
            domain=features if len(features) else None,
        )

    def evaluate(self, records: Records) -> CalibrationReport:
        """Measure the calibration on labelled answers.

        Raises:
            CalibrationMismatchError: if they are another model's.
        """
        self.require(records.fingerprint)
        return CalibrationReport.of(records.usual, self.judge_record)

    @property
    def digests(self) -> frozenset[str]:
        """Of all pictures and prompts that it was fitted on; see `picture_digest`."""
        return frozenset(self.fitted_on.digests + (self.documents.fitted_on.digests if self.documents else ()))

    def require(self, actual: Fingerprint) -> None:
        """Check that the calibration belongs to a model and a way of looking at it.

        Raises:
            CalibrationMismatchError: if not; says in which fields they differ.
        """
        differing = self.fingerprint.differing(actual)
        if differing:
            raise CalibrationMismatchError(
                {name: (getattr(self.fingerprint, name), getattr(actual, name)) for name in differing}
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all."""
        save_model(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibrator:
        """Read what `save` wrote.

        Raises:
            InputError: if the file cannot be read, is no calibration of this version, or holds numbers that no
                calibration has.
        """
        return load_model(cls, path, "calibration")
