"""The pictures that a calibration holds for: how far a picture is from those it was fitted on, as a p-value.

A picture may be unlike them in how it looks, in how surely the model recognises what it shows, in how much of that
changes when the picture is mirrored, and in how sure the model is of an answer's claims when it is asked about them one
by one. The first two are Mahalanobis' distances over pooled vision features and over what the logit lens makes of them,
with a covariance that is shrunk (Ledoit and Wolf) and kept along its widest directions alone. P-values are conformal
(the part of held-out pictures or answers that are at least as far out), so that of pictures like the fitted ones at
most a part ``p`` is refused at level ``p``. The last three are combined by Fisher's method (the sum of the logs of
their p-values): weak signs add up. The smallest of this and of the first two by themselves, each with its share of the
level, is turned into a p-value in the same way: an empty picture does not change in a mirror, and the model is sure of
what it does not show.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.reliability import Bools
from saliency_guard.errors import CalibrationMismatchError, InputError, require_extra
from saliency_guard.settings import Finite, Frozen, Scale

_DIRECTIONS = 96
FEWEST_PICTURES = 40
"""Fewer pictures say little about what pictures there are."""
_TINY = 1e-6
_FARTHEST = 1e18
_GROUPS = (1, 3, 10**9)
"""Answers of up to so many claims are compared with each other."""
_PARTS = (0.2, 0.3, 0.5)
"""The parts of the level of appearance, of recognition alone, and of recognition, change and surety together."""
_MOST_KEPT = 1000
_SMALLEST = 1e-4
_SLACK = 1e-4  # Of rounding.


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(values):
        msg = "the values that a domain compares with must rise"
        raise ValueError(msg)
    return values


Rising = Annotated[tuple[Finite, ...], Field(min_length=1), AfterValidator(_rising)]
"""Values of pictures or answers like the fitted ones, which others are compared with."""


def prompt_p_value(values: Sequence[float]) -> float:
    """The p-value of a prompt, from those of its pictures.

    Of several pictures one is easily unusual: so that not more prompts are refused, each gets its part of the level.
    """
    return min(1.0, min(values) * len(values))


def _conformal(extreme: Bools) -> Floats:
    """The conformal p-value, ``[...]``: the part of known values, ``[..., n]``, that are at least as far out."""
    result: Floats = (1.0 + extreme.sum(axis=-1)) / (1.0 + extreme.shape[-1])
    return result


class Cloud(Frozen):
    """Vectors like those that were fitted.

    Attributes:
        mean: of the features, float32, base64.
        directions: ``[k, D]`` the widest directions, each divided by its standard deviation; float32, base64.
        rest: standard deviation of what lies in none of them.
        distances: of pictures held out, rising.
        size: D.
    """

    mean: str
    directions: str
    rest: Scale
    distances: Rising
    size: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _check(self) -> Cloud:
        mean, directions = _numbers(self.mean), _numbers(self.directions)
        if len(mean) != self.size or len(directions) % self.size or not len(directions):
            msg = f"a domain of {self.size} features has {len(mean)} in its mean, {len(directions)} in its directions"
            raise ValueError(msg)
        if not (np.isfinite(mean).all() and np.isfinite(directions).all()):
            msg = "a domain's mean or directions are not finite"
            raise ValueError(msg)
        return self

    @classmethod
    def fit(cls, features: Floats, *, held_out: float = 0.5, seed: int = 0) -> Cloud:
        """Fit on some pictures, and measure the distances of the others.

        Args:
            features: ``[n, D]`` of pictures.
            held_out: part of them that the distances are of.
            seed: of the choice.

        Raises:
            InputError: if there are too few pictures.
            MissingExtraError: if scikit-learn is not installed.
        """
        require_extra("sklearn", "scikit-learn", "calibrate")
        from sklearn.covariance import LedoitWolf  # noqa: PLC0415 - an extra

        if len(features) < FEWEST_PICTURES:
            msg = f"{len(features)} pictures say little about all there are: at least {FEWEST_PICTURES} are needed"
            raise InputError(msg)
        hidden_rows = held_out_rows(len(features), part=held_out, seed=seed)
        hidden = features[hidden_rows]
        seen = features[np.setdiff1d(np.arange(len(features)), hidden_rows)]
        mean = seen.mean(axis=0)
        if seen.shape[1] <= 4 * len(seen):
            variances, vectors = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(seen - mean).covariance_)
        else:  # More features than the covariance of so few pictures can hold.
            _, singular, rows = np.linalg.svd(seen - mean, full_matrices=False)
            variances, vectors = singular[::-1] ** 2 / len(seen), rows[::-1].T
        count = min(_DIRECTIONS, len(variances))
        widths = np.sqrt(np.maximum(variances[-count:], _TINY))
        directions = (vectors[:, -count:] / widths).T
        left = (seen - mean) - (seen - mean) @ (directions * widths[:, None] ** 2).T @ directions
        rest = max(float(np.sqrt((left**2).sum(axis=1).mean() / max(1, seen.shape[1] - count))), _TINY)
        fitted = cls(mean=_text(mean), directions=_text(directions), rest=rest, distances=(0.0,), size=seen.shape[1])
        return fitted.model_copy(update={"distances": tuple(np.sort(fitted.distance(hidden)).round(4).tolist())})

    def distance(self, features: Floats) -> Floats:
        """``[n]`` how far pictures are from the fitted ones, in standard deviations.

        Raises:
            CalibrationMismatchError: if they have another number of features.
        """
        if features.shape[1] != self.size:
            raise CalibrationMismatchError({"domain features": (self.size, features.shape[1])})
        apart = features - _numbers(self.mean)
        directions = _numbers(self.directions).reshape(-1, self.size)
        along = apart @ directions.T
        lengths = (directions**2).sum(axis=1)
        square = (along**2).sum(axis=1)
        free = self.size - len(directions)
        if free:
            left = apart - (along / lengths) @ directions
            square += (left**2).sum(axis=1) / self.rest**2 * min(1.0, len(directions) / free)
        result: Floats = np.sqrt(square)
        return result

    def p_values(self, features: Floats) -> list[float]:
        """Conformal p-value of each picture ``[n, D]``; 0 where a feature is NaN, infinite or beyond all measure."""
        known = np.array(self.distances)
        usable: Bools = np.asarray((np.abs(features) < _FARTHEST).all(axis=1))  # False for NaN, too.
        distances = self.distance(np.where(usable[:, None], features, 0.0))
        values: list[float] = np.where(usable, _conformal(known >= distances[:, None]), 0.0).tolist()
        return values


def held_out_rows(count: int, *, part: float = 0.5, seed: int = 0) -> npt.NDArray[np.int64]:
    """Which of so many pictures a cloud is not fitted on; the same for all clouds of these pictures."""
    return np.random.default_rng(seed).permutation(count)[: round(count * part)]


class Change(Frozen):
    """How much what is read off pictures like those that were fitted changes when they are mirrored.

    Attributes:
        changes: of such pictures, rising.
    """

    changes: Rising

    @classmethod
    def fit(cls, changes: Floats) -> Change | None:
        """Of so many pictures ``[n]``; None where the model does not show it of each."""
        return cls(changes=_kept(changes.tolist())) if len(changes) and np.isfinite(changes).all() else None

    def p_values(self, changes: Floats) -> list[float]:
        """Conformal p-value of each picture ``[n]``, small where much changes; 0 where the change is not known."""
        known = np.array(self.changes)
        p_values = _conformal(known >= changes[:, None] - _SLACK)
        values: list[float] = np.where(np.isfinite(changes), p_values, 0.0).tolist()
        return values


class Surety(Frozen):
    """How sure the model is of the claims of answers about pictures like those that were fitted.

    Attributes:
        sure: for each of `_GROUPS` the mean distance of the verified log-odds from 0, of each answer, rising.
        joined: for each of them how unusual the answers were, by all signs together (`statistic`), rising.
    """

    sure: Annotated[tuple[Rising, ...], Field(min_length=len(_GROUPS), max_length=len(_GROUPS))]
    joined: Annotated[tuple[Rising, ...], Field(min_length=len(_GROUPS), max_length=len(_GROUPS))]

    @classmethod
    def fit(cls, odds: Sequence[Floats], signs: Sequence[Floats]) -> Surety | None:
        """Fit on answers about pictures that no cloud was fitted on; None where there are too few.

        Args:
            odds: verified log-odds of each answer's claims.
            signs: ``[pictures, 1 + s]`` p-values of the appearance and the other signs of each answer's pictures.
        """
        pairs = [(mean_surety(each), len(each), known) for each, known in zip(odds, signs, strict=True)]
        usable = [(sure, _group(count), known) for sure, count, known in pairs if sure is not None]
        if len(usable) < FEWEST_PICTURES:
            return None
        first = cls(sure=_grouped([(number, sure) for sure, number, _ in usable]), joined=((0.0,),) * len(_GROUPS))
        values = [(number, first.statistic(sure, number, known)) for sure, number, seen in usable for known in seen]
        return first.model_copy(update={"joined": _grouped(values)})

    def statistic(self, sure: float, group: int, signs: Floats) -> float:
        """How unusual an answer about a picture is, by all signs together: high is unusual.

        Args:
            sure: `mean_surety` of the answer.
            group: of answers with as many claims.
            signs: ``[1 + s]`` p-values of the picture's appearance and its other signs, recognition first.
        """
        together = fisher(np.array([*signs[1:], _conformal(np.array(self.sure[group]) <= sure)]))
        parts = (signs[0], signs[1], together)
        return -float(np.log(min(max(each, _SMALLEST) / part for each, part in zip(parts, _PARTS, strict=True))))

    def p_value(self, odds: Floats, signs: Floats) -> float | None:
        """Of an answer and the signs ``[1 + s]`` of one of its pictures; None where no claim was verified."""
        sure = mean_surety(odds)
        if sure is None:
            return None
        group = _group(len(odds))
        unusual = self.statistic(sure, group, signs)
        return float(_conformal(np.array(self.joined[group]) >= unusual - _SLACK))


def fisher(p_values: Floats) -> float:
    """The p-value of several independent ones together: of minus twice the sum of their logs, chi-squared."""
    half = -float(np.log(np.maximum(p_values, _SMALLEST)).sum())
    terms = np.cumprod([1.0, *(half / step for step in range(1, len(p_values)))])
    return float(np.exp(-half) * terms.sum())


def mean_surety(odds: Floats) -> float | None:
    """How sure a model is of claims: the mean distance of their verified log-odds from 0; None without any."""
    known = odds[np.isfinite(odds)]
    return float(np.abs(known).mean()) if len(known) else None


def _kept(values: Sequence[float]) -> tuple[float, ...]:
    """The values, rising; of very many a random part, which p-values can be made of as well."""
    chosen = np.random.default_rng(0).permutation(len(values))[:_MOST_KEPT]
    return tuple(np.sort(np.array(values)[chosen]).round(4).tolist())


def _grouped(values: Sequence[tuple[int, float]]) -> tuple[tuple[float, ...], ...]:
    """The values of each of `_GROUPS`, rising; all of them where a group has few.

    Args:
        values: each with the number of its group.
    """
    every = _kept([value for _, value in values])
    groups = [[value for number, value in values if number == index] for index in range(len(_GROUPS))]
    return tuple(_kept(group) if len(group) >= FEWEST_PICTURES else every for group in groups)


def _group(claims: int) -> int:
    """The group of answers to compare with: the least sure of ten claims is less sure than a single one."""
    return next(index for index, most in enumerate(_GROUPS) if claims <= most)


class Domain(Frozen):
    """Pictures like those that a calibration was fitted on.

    Attributes:
        appearance: of the pooled vision features.
        recognition: of how surely they are recognised; None where the model does not show it.
        change: of how much of that changes when they are mirrored; None where the model does not show it.
        surety: of how sure the model is of claims about them; None where claims were not verified.
    """

    appearance: Cloud
    recognition: Cloud | None
    change: Change | None = None
    surety: Surety | None = None

    @classmethod
    def fit(
        cls,
        features: Floats,
        *,
        recognition: int,
        answers: Sequence[tuple[Sequence[int], Floats]] = (),
        seed: int = 0,
    ) -> Domain:
        """Fit on pictures; arguments and errors as of `Cloud.fit`.

        Args:
            features: ``[n, D + recognition + 1]`` of pictures; the last column is how much of a picture changes.
            recognition: how many of the columns before the last say how surely they are recognised.
            answers: of each answer which of the pictures it is about, and the verified log-odds of its claims.
            seed: of the choice of the pictures held out.
        """
        looks, sure, changes = np.split(features, [features.shape[1] - recognition - 1, features.shape[1] - 1], axis=1)
        if not (recognition > 0 and bool(np.isfinite(sure).all())):
            return cls(appearance=Cloud.fit(looks, seed=seed), recognition=None)
        first = cls(
            appearance=Cloud.fit(looks, seed=seed),
            recognition=Cloud.fit(sure, seed=seed),
            change=Change.fit(changes[:, 0]),
        )
        signs = np.array(first._signs(features))
        unseen = set(held_out_rows(len(features), seed=seed).tolist())
        fresh = [(rows, odds) for rows, odds in answers if set(rows) <= unseen]
        surety = Surety.fit([odds for _, odds in fresh], [signs[list(rows)] for rows, _ in fresh])
        return first.model_copy(update={"surety": surety})

    def _signs(self, features: Floats) -> list[list[float]]:
        """The p-values of appearance, recognition and change of each picture, as far as the model shows them."""
        size = self.appearance.size
        columns = [self.appearance.p_values(features[:, :size])]
        if self.recognition is not None:
            columns.append(self.recognition.p_values(features[:, size : size + self.recognition.size]))
        if self.change is not None:
            columns.append(self.change.p_values(features[:, -1]))
        return [list(row) for row in zip(*columns, strict=True)]

    def p_values(self, features: Floats, odds: Floats | None = None) -> list[float]:
        """P-value of each picture ``[n, D + recognition + 1]``, at most 1.

        Where it is known how sure the model is of the claims about the picture, that of all signs together; else of
        appearance, recognition and change the least, as often as there are.

        Args:
            features: of the pictures of a prompt.
            odds: verified log-odds of the claims of the answer, NaN where there are none.

        Raises:
            CalibrationMismatchError: if they have another number of features.
        """
        return [self._p_value(signs, odds) for signs in self._signs(features)]

    def _p_value(self, signs: Sequence[float], odds: Floats | None) -> float:
        if min(signs) == 0.0:  # A sign that is not known never counts as a usual one.
            return 0.0
        known = self.surety.p_value(odds, np.array(signs)) if self.surety is not None and odds is not None else None
        return min(1.0, len(signs) * min(signs)) if known is None else known

    def looks_unlike(self, features: Floats, level: float) -> bool:
        """Whether a picture is refused for what it shows alone, however sure the model is of the claims about it.

        Args:
            features: ``[D + recognition + 1]`` of the picture.
            level: the p-value below which it is refused.
        """
        return min(self.p_values(features[None])) < level


def _text(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


@lru_cache(maxsize=16)  # The same few texts are read for every answer that is judged.
def _numbers(text: str) -> Floats:
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
    except ValueError as error:
        msg = f"the numbers of a domain are damaged: {error}"
        raise ValueError(msg) from error
    values.flags.writeable = False
    return values
