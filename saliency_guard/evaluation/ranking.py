"""The detection table of one split: every signal and every combination, fitted on one half, tested on the other.

Greedy and sampled captions are fitted and tested apart: they differ so much in how often they are wrong that
whatever told the two apart would pass for a detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.reliability import auroc
from saliency_guard.evaluation import probe
from saliency_guard.evaluation.detection import MODES, SCALARS, MentionTable
from saliency_guard.evaluation.statistics import Interval, aupr, binned_auroc, interval

_BINS = 5
_FEWEST = 10
_CHANCE = 0.5
ALL = "all"


@dataclass(frozen=True, slots=True)
class Rank:
    """One row of the table.

    Attributes:
        name: of the signal or combination.
        kind: ``"signal"``, ``"combination"``, ``"transferred"`` or ``"without"`` (an ablation of ``all``).
        high_means: ``"hallucinated"`` or ``"true"``: the direction found on the fitting half.
        auroc: of finding hallucinated mentions in the testing half.
        aupr: the same.
        within_bins: AUROC among mentions at like positions only.
        within_words: AUROC among mentions of the same class only.
        lost: for an ablation, how much AUROC ``all`` loses without it (paired over pictures); else None.
    """

    name: str
    kind: str
    high_means: str
    auroc: Interval
    aupr: Interval
    within_bins: Interval
    within_words: Interval
    lost: Interval | None = None


@dataclass(frozen=True, slots=True)
class ModeResult:
    """Captions of one split written one way.

    Attributes:
        mode: ``"greedy"`` or ``"sampled"``.
        mentions: in both halves together.
        hallucinated: of those.
        tested: mentions in the testing half.
        tested_hallucinated: of those.
        ranks: the rows; none where a half has fewer than ten mentions of one kind.
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
    """One split: its name, how many pictures were captioned, and a result for each way of writing."""

    split: str
    pictures: int
    modes: dict[str, ModeResult]


def rank(
    split: str, pictures: int, table: MentionTable, *, source: MentionTable | None = None, samples: int = 1000
) -> SplitResult:
    """Rank everything on one split.

    Args:
        split: its name.
        pictures: how many were captioned.
        table: their mentions.
        source: mentions of another split; ``all`` is then also fitted there and tested here.
        samples: bootstrap resamples.
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
    return min(int(half.hallucinated.sum()), int((~half.hallucinated).sum())) >= _FEWEST


def _ranks(fitting: MentionTable, testing: MentionTable, source: MentionTable | None, samples: int) -> tuple[Rank, ...]:
    ranker = _Ranker(fitting, testing, samples)
    everything = probe.COMBINATIONS[ALL]
    scores = {name: ranker.scores(groups) for name, groups in probe.COMBINATIONS.items()}
    ranks = [ranker.single(name) for name in SCALARS]
    ranks += [ranker.rank(name, "combination", found) for name, found in scores.items()]
    for group in everything:
        rest = ranker.scores(tuple(one for one in everything if one != group))
        ranks.append(ranker.rank(group, "without", rest, whole=scores[ALL]))
    if source is not None:
        elsewhere, _ = probe.halves(source)
        if _enough(elsewhere):
            transferred = _Ranker(elsewhere, testing, samples).scores(everything)
            ranks.append(ranker.rank(ALL, "transferred", transferred))
    return tuple(ranks)


def quartile_rates(table: MentionTable, samples: int = 1000) -> tuple[Interval, ...]:
    """Part of hallucinated mentions in each quartile of S, lowest first; mentions without S are left out."""
    known = table.where(np.isfinite(_saliency(table)))
    if len(known) == 0:
        return ()
    order = np.argsort(np.argsort(_saliency(known), kind="stable"), kind="stable")
    quarter = order * 4 // len(known)
    return tuple(
        interval(
            _mean_of(known.hallucinated[quarter == k].astype(np.float64)), known.picture[quarter == k], count=samples
        )
        for k in range(4)
        if (quarter == k).any()
    )


def _means(table: MentionTable, samples: int) -> tuple[Interval, Interval]:
    known = table.where(np.isfinite(_saliency(table)))
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    true, wrong = (
        interval(_mean_of(_saliency(part)), part.picture, count=samples) if len(part) else nothing
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
        """A signal as it is, in the direction that the fitting half shows."""
        column = SCALARS.index(name)
        seen = self.fitting.signals[:, column]
        known = np.isfinite(seen)
        up = not known.any() or float(auroc(seen[known], self.fitting.hallucinated[known])[0]) >= _CHANCE
        scores = self.testing.signals[:, column]
        return self.rank(name, "signal", scores if up else -scores, high_means="hallucinated" if up else "true")

    def scores(self, groups: tuple[str, ...]) -> Floats:
        """A logistic model over groups of features: its log-odds on the testing half."""
        return probe.predict(probe.fit(self.fitting, groups), self.testing, groups)

    def rank(
        self, name: str, kind: str, scores: Floats, *, high_means: str = "hallucinated", whole: Floats | None = None
    ) -> Rank:
        """One row. A mention of which a signal says nothing is left out.

        Args:
            name: of the row.
            kind: of the row.
            scores: ``[tested]``, larger for hallucinated.
            high_means: which way the signal itself points.
            whole: scores of what this is an ablation of.
        """
        known = np.isfinite(scores)
        testing, scores = self.testing.where(known), scores[known]
        edges = np.quantile(self.testing.priors[:, 0], np.linspace(0, 1, _BINS + 1)[1:-1])
        bins = np.searchsorted(edges, testing.priors[:, 0], side="right")
        wrong = testing.hallucinated

        def measured(statistic: Callable[[Floats], Floats]) -> Interval:
            return interval(statistic, testing.picture, count=self.samples)

        return Rank(
            name,
            kind,
            high_means,
            measured(lambda weights: auroc(scores, wrong, weights)),
            measured(lambda weights: aupr(scores, wrong, weights)),
            measured(lambda weights: binned_auroc(scores, wrong, bins, weights)),
            measured(lambda weights: binned_auroc(scores, wrong, testing.word, weights)),
            None
            if whole is None
            else measured(lambda weights: auroc(whole[known], wrong, weights) - auroc(scores, wrong, weights)),
        )
