"""The pointing game's splits, results and section of docs/evidence.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.evaluation.evidence import table
from saliency_guard.evaluation.pointing import SEVERAL, PointedTable, Shown, several_questions, single_questions
from saliency_guard.evaluation.pointing_maps import CENTRE, CHANCE, COMBINED, PLAIN, SALIENCY
from saliency_guard.evaluation.statistics import Interval, interval
from saliency_guard.evaluation.world import title
from saliency_guard.scenes import openmoji, tuxpaint

CHOOSING = "development"
REPORTED = "training styles"
SEVERAL_PICTURES = "several pictures"
_SHOWN_BEST = 5


@dataclass(frozen=True, slots=True)
class Play:
    """A split of the game.

    Attributes:
        name: of the split.
        questions: how many are asked.
        ask: makes them.
    """

    name: str
    questions: int
    ask: Callable[[], Iterator[Shown]]


def plays(scenes: int) -> list[Play]:
    """The splits that can be played here: one to choose a map on, those that are reported, and several pictures.

    Args:
        scenes: of each split; for a third as many prompts there are two, three and four pictures.
    """
    splits = [CHOOSING, REPORTED]
    splits += [drawings.NAME for drawings in (openmoji, tuxpaint) if drawings.installed()]
    groups = -(-scenes // 3)
    return [
        *(Play(name, scenes, partial(single_questions, name, scenes)) for name in splits),
        Play(
            SEVERAL_PICTURES,
            groups * len(SEVERAL),
            partial(several_questions, REPORTED, groups, skipped=scenes),
        ),
    ]


@dataclass(frozen=True, slots=True)
class MapResult:
    """What a map is worth on a split; see `PointedTable`."""

    name: str
    right: Interval
    peak: Interval
    mass: Interval


@dataclass(frozen=True, slots=True)
class PointingResult:
    """The results of a split.

    Attributes:
        split: its name.
        scenes: with a true mention.
        mentions: of true objects.
        given: how many of them stand in true statements that the model was given.
        maps: in the order of `candidate_maps`.
        centred: how often the centre of `Claim.box` lies in an object of the class.
        overlap: of the box with the object's, intersection over union.
    """

    split: str
    scenes: int
    mentions: int
    given: int
    maps: tuple[MapResult, ...]
    centred: Interval
    overlap: Interval

    def of(self, name: str) -> MapResult | None:
        """The result of a map."""
        return next((each for each in self.maps if each.name == name), None)


def split_result(split: str, pointed: PointedTable, *, samples: int = 1000) -> PointingResult:
    """Means over mentions with 95 % intervals over scenes.

    Args:
        split: its name.
        pointed: its mentions.
        samples: resamples.
    """

    def mean(values: Floats) -> Interval:
        known = np.isfinite(values)
        if not known.any():
            return Interval(float("nan"), float("nan"), float("nan"))
        return interval(_mean_of(values[known]), pointed.scene[known], count=samples)

    return PointingResult(
        split=split,
        scenes=len(np.unique(pointed.scene)),
        mentions=len(pointed),
        given=int(pointed.given.sum()),
        maps=tuple(
            MapResult(str(name), mean(pointed.right[:, at]), mean(pointed.peak[:, at]), mean(pointed.mass[:, at]))
            for at, name in enumerate(pointed.maps)
        ),
        centred=mean(pointed.box[:, 0]),
        overlap=mean(pointed.box[:, 1]),
    )


def _mean_of(values: Floats) -> Callable[[Floats], Floats]:
    def mean(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Floats = (weights @ values) / weights.sum(axis=1)
        return result

    return mean


def pointing_section(results: Sequence[PointingResult], command: str, *, model: str) -> str:
    """What was chosen, and every map on every split.

    Args:
        results: the first is of the split that is chosen on.
        command: the command that was run.
        model: name of the model.
    """
    chosen, *reported = results
    single = [result for result in reported if result.split != SEVERAL_PICTURES]
    several = next((result for result in reported if result.split == SEVERAL_PICTURES), None)
    counts = "; ".join(
        f"{_title(result)}: {result.mentions} mentions in {result.scenes} scenes"
        + (f" ({result.given} of them in true statements given to the model)" if result.given else "")
        for result in results
    )
    best = sorted(chosen.maps, key=lambda each: -np.nan_to_num(each.peak.value, nan=-1.0))[:_SHOWN_BEST]
    parts = [
        f"```\n{command}\n```",
        f"Model {model}. {counts}.",
        (
            "On the development split, which nothing is reported on, these maps point best: "
            + ", ".join(f"{each.name} ({each.peak.value:.3f})" for each in best)
            + "."
        ),
    ]
    header = ["", *(f"{_title(result)}, {what}" for result in single for what in ("peak", "mass"))]
    if several is not None:
        header += ["several pictures, right picture", "several pictures, peak"]
    rows = [
        [
            f"**{each.name}**" if each.name in {CHANCE, CENTRE, PLAIN, SALIENCY, COMBINED} else each.name,
            *(cell for result in single for cell in _cells(result, each.name)),
            *(_several_cells(several, each.name) if several is not None else ()),
        ]
        for each in chosen.maps
    ]
    parts.append(table(header, rows))
    parts.append(
        table(
            ["`Claim.box`", "centre in an object", "overlap (intersection over union)"],
            [[_title(result), str(result.centred), str(result.overlap)] for result in reported],
        )
    )
    return "\n\n".join(parts)


def _title(result: PointingResult) -> str:
    return title(result.split) if result.split != CHOOSING else "development"


def _cells(result: PointingResult, name: str) -> tuple[str, str]:
    of = result.of(name)
    return ("", "") if of is None else (str(of.peak), f"{of.mass.value:.3f}")


def _several_cells(result: PointingResult, name: str) -> tuple[str, str]:
    of = result.of(name)
    return ("", "") if of is None else (str(of.right), str(of.peak))
