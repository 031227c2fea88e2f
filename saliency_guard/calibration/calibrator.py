"""Raw signals to a probability that a token, and a whole answer, is grounded.

A logistic model of a token's features is fitted on labelled claims. An answer's probability comes from a second,
small one, of what the first says of the tokens that count. Directions and weights are fitted, none is assumed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import model_validator

from saliency_guard.calibration import fit as fitting
from saliency_guard.calibration.answer_features import ANSWER_FEATURES, answer_summary, counted_rows, record_pieces
from saliency_guard.calibration.features import FEATURE_SETS, SUMMARIES, Floats
from saliency_guard.calibration.fingerprint import Fingerprint
from saliency_guard.calibration.fit import Method
from saliency_guard.calibration.linear import LinearModel, ProbabilityMap
from saliency_guard.calibration.records import GroundingRecord, Records
from saliency_guard.calibration.reliability import Reliability, reliability
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.errors import CalibrationMismatchError, ConfigError
from saliency_guard.settings import Count, Frozen, Probability
from saliency_guard.storage import load_model, save_model

CALIBRATOR_FILE = "calibrator.json"
"""The calibration in a model's folder, used where there is one."""


class FittedOn(Frozen):
    """What a calibration was fitted on.

    Attributes:
        source: in words.
        pictures: how many, those held out for the report included.
        answers: how many.
        claims: labelled mentions in them.
        digests: of the pictures' names: a guarantee must not be tested on pictures that the scores were fitted on.
    """

    source: str
    pictures: Count
    answers: Count
    claims: Count
    digests: tuple[str, ...] = ()


class CalibrationReport(Frozen):
    """How well a calibration does on pictures it never saw.

    Attributes:
        tokens: of labelled claims; None where there were none.
        answers: of whole answers; None where none had a token that counts.
    """

    tokens: Reliability | None
    answers: Reliability | None


class Judgement(Frozen):
    """What a calibration says of one answer.

    Attributes:
        tokens: index of a token that counts -> probability that it is grounded; empty where only answers were labelled.
        answer: probability that the whole answer is; None where no token counts.
    """

    tokens: dict[int, Probability]
    answer: Probability | None


class Calibrator(Frozen):
    """From signals to the probability of being grounded, for one model and one way of looking at it.

    Attributes:
        schema_version: of the file.
        fingerprint: what it belongs to.
        fitted_on: what it was fitted on.
        token_filter: which tokens of an answer count.
        groups: the features it uses.
        token_model: log-odds of a token.
        token_map: their probability; None where no claims were labelled, only answers.
        answer_model: log-odds of an answer, from those of its tokens.
        answer_map: their probability.
        report: on pictures held out.
    """

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint
    fitted_on: FittedOn
    token_filter: TokenFilter
    groups: tuple[str, ...]
    token_model: LinearModel
    token_map: ProbabilityMap | None
    answer_model: LinearModel
    answer_map: ProbabilityMap
    report: CalibrationReport | None = None

    @model_validator(mode="after")
    def _check(self) -> Calibrator:
        """Numbers that belong to other features would be multiplied without complaint."""
        if self.groups not in FEATURE_SETS.values():
            known = "; ".join(", ".join(groups) for groups in FEATURE_SETS.values())
            msg = f"groups={list(self.groups)} are no feature set; the sets are, in this order: {known}"
            raise ValueError(msg)
        found, more = len(self.token_model.median), len(self.groups) - 1
        if found < len(SUMMARIES) + more or (not more and found != len(SUMMARIES)):
            wanted = f"more than {len(SUMMARIES)}" if more else str(len(SUMMARIES))
            msg = f"token_model has {found} features, and the groups {list(self.groups)} have {wanted}"
            raise ValueError(msg)
        if len(self.answer_model.median) != ANSWER_FEATURES:
            msg = f"answer_model has {len(self.answer_model.median)} features, and an answer has {ANSWER_FEATURES}"
            raise ValueError(msg)
        return self

    @classmethod
    def fit(
        cls,
        records: Records,
        *,
        method: Method = "logistic",
        features: str | None = None,
        token_filter: TokenFilter | None = None,
        held_out: float = 0.25,
        source: str = "labelled records",
        seed: int = 0,
    ) -> Calibrator:
        """Fit on labelled answers; one part of their pictures is held out for the report.

        Args:
            records: the answers, from `Records.load` or `saliency-guard records`.
            method: how log-odds become probabilities: ``"logistic"`` as they are, ``"platt"`` or ``"isotonic"``.
            features: one of `features.FEATURE_SETS`; None chooses by cross-validation over pictures.
            token_filter: which tokens count.
            held_out: part of the pictures that the report is on; 0 makes none.
            source: what to say it was fitted on.
            seed: of the choice of held-out pictures.

        Raises:
            ConfigError: if a setting is out of range.
            InputError: if there are too few labels of either kind.
            MissingExtraError: if scikit-learn is not installed.
        """
        fitting.require_scikit_learn()
        if not 0.0 <= held_out < 1.0:
            msg = f"held_out={held_out} is no part of the pictures: give 0 or more, and less than 1"
            raise ConfigError(msg)
        if method not in ("logistic", "platt", "isotonic"):
            msg = f"method={method!r}: choose logistic, platt or isotonic"
            raise ConfigError(msg)
        counts = token_filter or TokenFilter()
        names = sorted({record.picture for record in records})
        drawn = np.random.default_rng(seed).permutation(len(names))[: round(held_out * len(names))]
        hidden = {names[index] for index in drawn}
        seen = records.where(record.picture not in hidden for record in records)
        sets = fitting.feature_choices(seen, features)
        token = min((fitting.fit_tokens(seen, groups, counts) for groups in sets), key=lambda fit: fit.loss)
        answer_model, answer_map = fitting.fit_answers(seen, token, counts, method)
        fitted = cls(
            fingerprint=records.fingerprint,
            fitted_on=FittedOn(
                source=source,
                pictures=len(names),
                answers=len(records),
                claims=sum(len(record.mentions) for record in records),
                digests=tuple(map(picture_digest, names)),
            ),
            token_filter=counts,
            groups=token.groups,
            token_model=token.model,
            token_map=fitting.fit_map(token.odds, token.table.grounded, method) if token.table.claims else None,
            answer_model=answer_model,
            answer_map=answer_map,
        )
        if not hidden:
            return fitted
        tested = records.where(record.picture in hidden for record in records)
        return fitted.model_copy(update={"report": fitted.evaluate(tested)})

    def judge(self, pieces: Sequence[str], features: Floats, known: Sequence[int] | None = None) -> Judgement:
        """What the calibration says of an answer.

        Args:
            pieces: every token's piece of the text.
            features: ``[n, k]`` of the calibration's groups, one after the other.
            known: the tokens that the rows belong to; None is all.

        Raises:
            InputError: if a token that counts has no row.
        """
        rows = counted_rows(self.token_filter, pieces, range(len(pieces)) if known is None else known)
        if not rows:
            return Judgement(tokens={}, answer=None)
        counted = features[list(rows.values())]
        odds = self.token_model.log_odds(counted)
        tokens = (
            {} if self.token_map is None else dict(zip(rows, self.token_map.probability(odds).tolist(), strict=True))
        )
        answer = self.answer_map.probability(self.answer_model.log_odds(answer_summary(odds, counted)[None]))
        return Judgement(tokens=tokens, answer=float(answer[0]))

    def judge_record(self, record: GroundingRecord) -> Judgement:
        """What the calibration says of a labelled answer, labels unseen."""
        return self.judge(record_pieces(record), record.features(self.groups), record.counted)

    def evaluate(self, records: Records) -> CalibrationReport:
        """Measure the calibration on labelled answers.

        Raises:
            CalibrationMismatchError: if they are another model's.
        """
        self.require(records.fingerprint)
        tokens: list[tuple[float, bool]] = []
        answers: list[tuple[float, bool]] = []
        for record in records:
            found = self.judge_record(record)
            if found.answer is not None:
                answers.append((found.answer, record.grounded))
            tokens += [(found.tokens[one.token], one.grounded) for one in record.mentions if one.token in found.tokens]
        return CalibrationReport(tokens=_measured(tokens), answers=_measured(answers))

    def require(self, found: Fingerprint) -> None:
        """Check that the calibration belongs to a model and a way of looking at it.

        Raises:
            CalibrationMismatchError: if not; says in which fields they differ.
        """
        differing = self.fingerprint.differing(found)
        if differing:
            raise CalibrationMismatchError(
                {name: (getattr(self.fingerprint, name), getattr(found, name)) for name in differing}
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


def picture_digest(name: str) -> str:
    """A short name for a picture's name."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def _measured(pairs: Sequence[tuple[float, bool]]) -> Reliability | None:
    if not pairs:
        return None
    probability, grounded = zip(*pairs, strict=True)
    return reliability(np.array(probability), np.array(grounded, dtype=bool))
