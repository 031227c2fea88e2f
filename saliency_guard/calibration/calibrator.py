"""Raw signals to a probability that a token, and a whole answer, is grounded.

A logistic model of a token's features is fitted on labelled claims. An answer's probability comes from a second,
small one, of what the first says of the tokens that count. Directions and weights are fitted, none is assumed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np
from pydantic import model_validator

from saliency_guard.calibration import fit as fitting
from saliency_guard.calibration.features import FEATURE_SETS, SUMMARIES, Floats
from saliency_guard.calibration.fingerprint import Fingerprint
from saliency_guard.calibration.fit import Method
from saliency_guard.calibration.linear import LinearModel, ProbabilityMap
from saliency_guard.calibration.records import GroundingRecord, Records
from saliency_guard.calibration.reliability import Bools, Reliability, reliability
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.errors import CalibrationMismatchError, ConfigError, InputError
from saliency_guard.settings import Count, Frozen, Probability
from saliency_guard.storage import load_model, save_model

_SHORT, _MIDDLING = 2, 4  # Tokens that count.
_SEEN, _LENGTHS = 6, 3
_ANSWER_FEATURES = 2 * (_SEEN + _LENGTHS + _LENGTHS * _SEEN + len(SUMMARIES)) + 1
"""How many `_summary` gives."""
_SURPRISE = 4.0
"""Nats: a token less likely than that is hardly the model's own."""

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
        if len(self.answer_model.median) != _ANSWER_FEATURES:
            msg = f"answer_model has {len(self.answer_model.median)} features, and an answer has {_ANSWER_FEATURES}"
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
        sets = _choices(seen, features)
        token = min((_fit_tokens(seen, groups, counts) for groups in sets), key=lambda fit: fit.loss)
        answer_model, answer_map = _fit_answers(seen, token, counts, method)
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
        rows = _rows(self.token_filter, pieces, range(len(pieces)) if known is None else known)
        if not rows:
            return Judgement(tokens={}, answer=None)
        counted = features[list(rows.values())]
        odds = self.token_model.log_odds(counted)
        tokens = (
            {} if self.token_map is None else dict(zip(rows, self.token_map.probability(odds).tolist(), strict=True))
        )
        answer = self.answer_map.probability(self.answer_model.log_odds(_summary(odds, counted)[None]))
        return Judgement(tokens=tokens, answer=float(answer[0]))

    def judge_record(self, record: GroundingRecord) -> Judgement:
        """What the calibration says of a labelled answer, labels unseen."""
        return self.judge(_pieces(record), record.features(self.groups), record.counted)

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


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Labelled tokens, ``[n]`` rows; ``claims`` is False where they only have their answer's label."""

    features: Floats
    grounded: Bools
    pictures: fitting.Strings
    claims: bool


@dataclass(frozen=True, slots=True, eq=False)
class _TokenFit:
    """A model of tokens, and what it says (out of fold) of those it was fitted on."""

    groups: tuple[str, ...]
    table: _Table
    strength: float
    odds: Floats
    model: LinearModel

    @property
    def loss(self) -> float:
        return fitting.loss(self.odds, self.table.grounded)


def _choices(records: Records, features: str | None) -> list[tuple[str, ...]]:
    """The feature sets that the records have, or the one that is asked for."""
    if features is not None:
        if features not in FEATURE_SETS:
            msg = f"no feature set is called {features!r}; there are: {', '.join(FEATURE_SETS)}"
            raise ConfigError(msg)
        return [FEATURE_SETS[features]]
    known = frozenset.intersection(*(record.groups for record in records)) if len(records) else frozenset()
    return [groups for groups in FEATURE_SETS.values() if set(groups) <= known] or [FEATURE_SETS["signals"]]


def _fit_tokens(records: Records, groups: tuple[str, ...], counts: TokenFilter) -> _TokenFit:
    table = _token_table(records, groups, counts)
    if not fitting.enough(table.grounded, table.pictures):
        wrong = int((~table.grounded).sum())
        msg = (
            f"too few labels to fit on: {int(table.grounded.sum())} grounded and {wrong} not; both must come from at "
            f"least {fitting.FOLDS} pictures"
        )
        raise InputError(msg)
    strength, odds = fitting.out_of_fold(table.features, table.grounded, table.pictures)
    model = fitting.fit_linear(table.features, table.grounded, strength)
    return _TokenFit(groups, table, strength, odds, model)


def _token_table(records: Records, groups: tuple[str, ...], counts: TokenFilter) -> _Table:
    claims = any(record.mentions for record in records)
    rows: list[Floats] = []
    grounded: list[bool] = []
    pictures: list[str] = []
    for record in records:
        found = record.features(groups)
        at = {token: row for row, token in enumerate(record.counted)}
        labels = (
            {one.token: one.grounded for one in record.mentions if one.token in at}
            if claims
            else dict.fromkeys(_rows(counts, _pieces(record), record.counted), record.grounded)
        )
        rows += [found[at[token]] for token in labels]
        grounded += labels.values()
        pictures += [record.picture] * len(labels)
    if len({len(row) for row in rows}) > 1:
        msg = "the records' vectors have different lengths: they are not all of one model"
        raise InputError(msg)
    return _Table(np.array(rows), np.array(grounded, dtype=bool), np.array(pictures, dtype=str), claims)


def _fit_answers(
    records: Records, token: _TokenFit, counts: TokenFilter, method: Method
) -> tuple[LinearModel, ProbabilityMap]:
    """The model of answers, from what models of tokens say that never saw the answer's picture."""
    of_token = fitting.folds(token.table.grounded, token.table.pictures)
    fold = dict(zip(token.table.pictures.tolist(), of_token.tolist(), strict=True))
    models = [
        fitting.fit_linear(
            token.table.features[of_token != index], token.table.grounded[of_token != index], token.strength
        )
        for index in range(fitting.FOLDS)
    ]
    summaries: list[Floats] = []
    kept: list[bool] = []
    for record in records:
        rows = _rows(counts, _pieces(record), record.counted)
        kept.append(bool(rows))
        if rows:
            # A picture without a labelled token was seen by none of them.
            counted = record.features(token.groups)[list(rows.values())]
            summaries.append(_summary(models[fold.get(record.picture, 0)].log_odds(counted), counted))
    labelled = list(compress(records, kept))
    grounded = np.array([record.grounded for record in labelled], dtype=bool)
    pictures = np.array([record.picture for record in labelled], dtype=str)
    if not fitting.enough(grounded, pictures):
        msg = f"too few answers of each kind to fit on: {int(grounded.sum())} grounded and {int((~grounded).sum())} not"
        raise InputError(msg)
    features = np.array(summaries)
    strength, odds = fitting.out_of_fold(features, grounded, pictures)
    return fitting.fit_linear(features, grounded, strength), fitting.fit_map(odds, grounded, method)


def _rows(counts: TokenFilter, pieces: Sequence[str], known: Sequence[int]) -> Mapping[int, int]:
    """Token that counts -> its row."""
    at = {token: row for row, token in enumerate(known)}
    counted = counts.counted(pieces)
    missing = [token for token in counted if token not in at]
    if missing:
        msg = f"token {missing[0]} ({pieces[missing[0]]!r}) counts but was not recorded: use the filter of the records"
        raise InputError(msg)
    return {token: at[token] for token in counted}


def _summary(odds: Floats, counted: Floats) -> Floats:
    """What a model of answers sees of the tokens that count.

    The first and the last (a yes or no, the last thing that is named), the mean, the two least, the log of the product
    of their probabilities, and how many there are. A claim weighs otherwise in a short answer than in a long one, so
    these are there for each kind of length, too. And the means of the summary signals: what all tokens together say.
    All of it is there once more for answers without a surprise: what says that the model doubts its own words says
    little of somebody else's.
    """
    least = np.sort(odds)[:2]
    together = -np.logaddexp(0.0, -odds).sum()
    seen = np.array([odds[0], odds[-1], odds.mean(), least[0], least[-1], together])
    count = len(odds)
    length = np.array([np.log(count), count <= _SHORT, _SHORT < count <= _MIDDLING], dtype=np.float64)
    means = np.ma.masked_invalid(counted[:, : len(SUMMARIES)]).mean(axis=0).filled(np.nan)
    all_of_it = np.concatenate([seen, length, np.outer(length, seen).ravel(), means])
    surprise = counted[:, SUMMARIES.index("nll")].max(initial=0.0)
    own = float(surprise < _SURPRISE)
    return np.concatenate([all_of_it, [own], own * all_of_it])


def _pieces(record: GroundingRecord) -> list[str]:
    return [token.text for token in record.answer.tokens]


def _measured(pairs: Sequence[tuple[float, bool]]) -> Reliability | None:
    if not pairs:
        return None
    probability, grounded = zip(*pairs, strict=True)
    return reliability(np.array(probability), np.array(grounded, dtype=bool))
