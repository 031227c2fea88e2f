"""The detection table of a split: every signal and every combination, fitted on one half and tested on the other.

Greedy and sampled captions are fitted and tested separately: their error rates differ so much that anything that
separates the two would look like a detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.reliability import auroc
from saliency_guard.evaluation import probe
from saliency_guard.evaluation.detection import JUDGED, MODES, SCALARS, MentionTable
from saliency_guard.evaluation.statistics import Interval, aupr, binned_auroc, interval

_BINS = 5
_MIN_MENTIONS = 10
_CHANCE = 0.5
ALL = "all"


@dataclass(frozen=True, slots=True)
class Rank:
    """A row of the table.

    Attributes:
        name: name of the signal or combination.
        kind: ``"user"`` (what a user gets), ``"signal"``, ``"combination"``, ``"transferred"`` or ``"without"`` (an
            ablation of ``all``).
        high_means: ``"hallucinated"`` or ``"true"``: the direction on the fitting half.
        auroc: AUROC of detecting hallucinated mentions in the testing half.
        aupr: AUPR of the same.
        within_bins: AUROC among mentions at similar positions only.
        within_words: AUROC among mentions of the same class only.
        known: the part of the mentions that it says something about.
        lost: for an ablation, the AUROC that ``all`` loses without it (paired over pictures); else None.
    """

    name: str
    kind: str
    high_means: str
    auroc: Interval
    aupr: Interval
    within_bins: Interval
    within_words: Interval
    known: float
    lost: Interval | None = None


@dataclass(frozen=True, slots=True)
class ModeResult:
    """The results for a split's greedy or sampled captions.

    Attributes:
        mode: ``"greedy"`` or ``"sampled"``.
        mentions: number of mentions in both halves.
        hallucinated: number of hallucinated mentions in both halves.
        tested: number of mentions in the testing half.
        tested_hallucinated: number of hallucinated mentions in the testing half.
        ranks: the rows; empty if a half has fewer than ten true or ten hallucinated mentions.
        quartiles: hallucination rate by quartile of S over both halves, lowest first.
        saliency_means: mean S of true and of hallucinated mentions.
    """

    mode: str
    mentions: int
    hallucinated: int
    tested: int
    tested_hallucinated: int
    ranks: tuple[Rank, ...]
    quartiles: tuple[Interval, ...]
    saliency_means: tuple[Interval, Interval]


@dataclass(frozen=True, slots=True)
class SplitResult:
    """The results of a split: its name, the number of captioned pictures, and a result for each mode."""

    split: str
    pictures: int
    modes: dict[str, ModeResult]


def rank(
    split: str, pictures: int, table: MentionTable, *, source: MentionTable | None = None, samples: int = 1000
) -> SplitResult:
    """Rank all signals and combinations on a split.

    Args:
        split: name of the split.
        pictures: number of captioned pictures.
        table: their mentions.
        source: mentions of another split; ``all`` is then also fitted on them and tested here.
        samples: number of bootstrap resamples.
    """
    modes = {
        mode: _rank_mode(
            mode,
            table.where(table.sampled == (mode == "sampled")),
            source.where(source.sampled == (mode == "sampled")) if source is not None else None,
            samples,
        )
        for mode in MODES
    }
    return SplitResult(split, pictures, modes)


def _rank_mode(mode: str, table: MentionTable, source: MentionTable | None, samples: int) -> ModeResult:
    fitting, testing = probe.halves(table)
    return ModeResult(
        mode=mode,
        mentions=len(table),
        hallucinated=int(table.hallucinated.sum()),
        tested=len(testing),
        tested_hallucinated=int(testing.hallucinated.sum()),
        ranks=_ranks(fitting, testing, source, samples) if _enough(fitting) and _enough(testing) else (),
        quartiles=quartile_rates(table, samples),
        saliency_means=_means(table, samples),
    )


def _enough(half: MentionTable) -> bool:
    return min(int(half.hallucinated.sum()), int((~half.hallucinated).sum())) >= _MIN_MENTIONS


def _ranks(fitting: MentionTable, testing: MentionTable, source: MentionTable | None, samples: int) -> tuple[Rank, ...]:
    ranker = _Ranker(fitting, testing, samples)
    all_groups = probe.COMBINATIONS[ALL]
    scores = {name: ranker.scores(groups) for name, groups in probe.COMBINATIONS.items()}
    ranks = [ranker.user(name) for name in JUDGED]
    ranks += [ranker.single(name) for name in SCALARS]
    ranks += [ranker.rank(name, "combination", log_odds) for name, log_odds in scores.items()]
    for group in all_groups:
        ablated = ranker.scores(tuple(other for other in all_groups if other != group))
        ranks.append(ranker.rank(group, "without", ablated, whole=scores[ALL]))
    if source is not None:
        source_fitting, _ = probe.halves(source)
        if _enough(source_fitting):
            transferred = _Ranker(source_fitting, testing, samples).scores(all_groups)
            ranks.append(ranker.rank(ALL, "transferred", transferred))
    return tuple(ranks)


def quartile_rates(table: MentionTable, samples: int = 1000) -> tuple[Interval, ...]:
    """Share of hallucinated mentions in each quartile of S, lowest first; mentions without S are left out."""
    known = table.where(np.isfinite(_saliency(table)))
    if len(known) == 0:
        return ()
    order = np.argsort(np.argsort(_saliency(known), kind="stable"), kind="stable")
    quartile = order * 4 // len(known)
    return tuple(
        interval(
            _mean_of(known.hallucinated[quartile == k].astype(np.float64)), known.picture[quartile == k], count=samples
        )
        for k in range(4)
        if (quartile == k).any()
    )


def _means(table: MentionTable, samples: int) -> tuple[Interval, Interval]:
    known = table.where(np.isfinite(_saliency(table)))
    undefined = Interval(float("nan"), float("nan"), float("nan"))
    true, wrong = (
        interval(_mean_of(_saliency(part)), part.picture, count=samples) if len(part) else undefined
        for part in (known.where(~known.hallucinated), known.where(known.hallucinated))
    )
    return true, wrong


def _saliency(table: MentionTable) -> Floats:
    return table.signals[:, SCALARS.index("saliency")]


def _mean_of(values: Floats) -> Callable[[Floats], Floats]:
    def mean(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Floats = (weights @ values) / weights.sum(axis=1)
        return result

    return mean


@dataclass(frozen=True, slots=True)
class _Ranker:
    fitting: MentionTable
    testing: MentionTable
    samples: int

    def single(self, name: str) -> Rank:
        """A single signal, in the direction that is better on the fitting half."""
        column = SCALARS.index(name)
        fitting = self.fitting.signals[:, column]
        known = np.isfinite(fitting)
        rises = not known.any() or float(auroc(fitting[known], self.fitting.hallucinated[known])[0]) >= _CHANCE
        scores = self.testing.signals[:, column]
        return self.rank(name, "signal", scores if rises else -scores, high_means="hallucinated" if rises else "true")

    def user(self, name: str) -> Rank:
        """What a user gets: high means true, and nothing is fitted here."""
        return self.rank(name, "user", -self.testing.judged[:, JUDGED.index(name)], high_means="true")

    def scores(self, groups: tuple[str, ...]) -> Floats:
        """The log-odds of a logistic model on groups of features, on the testing half."""
        return probe.predict(probe.fit(self.fitting, groups), self.testing, groups)

    def rank(
        self, name: str, kind: str, scores: Floats, *, high_means: str = "hallucinated", whole: Floats | None = None
    ) -> Rank:
        """A row of the table; mentions for which the signal is undefined are left out.

        Args:
            name: name of the row.
            kind: kind of the row.
            scores: ``[tested]``, larger for hallucinated.
            high_means: direction of the signal.
            whole: for an ablation, the scores without it.
        """
        known = np.isfinite(scores)
        testing, scores = self.testing.where(known), scores[known]
        edges = np.quantile(self.testing.priors[:, 0], np.linspace(0, 1, _BINS + 1)[1:-1])
        bins = np.searchsorted(edges, testing.priors[:, 0], side="right")
        wrong = testing.hallucinated

        def with_interval(statistic: Callable[[Floats], Floats]) -> Interval:
            return interval(statistic, testing.picture, count=self.samples)

        return Rank(
            name,
            kind,
            high_means,
            with_interval(lambda weights: auroc(scores, wrong, weights)),
            with_interval(lambda weights: aupr(scores, wrong, weights)),
            with_interval(lambda weights: binned_auroc(scores, wrong, bins, weights)),
            with_interval(lambda weights: binned_auroc(scores, wrong, testing.word, weights)),
            float(known.mean()) if len(known) else 0.0,
            None
            if whole is None
            else with_interval(lambda weights: auroc(whole[known], wrong, weights) - auroc(scores, wrong, weights)),
        )
