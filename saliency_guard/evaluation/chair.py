"""CHAIR: the share of hallucinated objects in captions (Rohrbach et al., arXiv 1809.02156).

The ground truth here are the annotations (or the drawn objects). The published metric also counts the objects in the
human captions of a COCO picture as true, and has a list of compound words such as "baseball bat": our numbers on COCO
are somewhat higher, and comparable only with each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import MappingProxyType

from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.statistics import ratio


@dataclass(frozen=True, slots=True)
class CaptionScore:
    """Counts for a caption.

    Attributes:
        mentioned: number of object mentions, repetitions included.
        hallucinated: number of mentions of objects that the picture does not show.
        found: number of classes that are shown and mentioned.
        shown: number of classes that are shown.
        words: number of words.
    """

    mentioned: int
    hallucinated: int
    found: int
    shown: int
    words: int

    @property
    def captions(self) -> int:
        """1, for sums over captions."""
        return 1

    @property
    def hallucinating(self) -> int:
        """1 if any mention is hallucinated, else 0."""
        return int(self.hallucinated > 0)


def score_caption(text: str, shown: Collection[str], vocabulary: ObjectVocabulary) -> CaptionScore:
    """Compare a caption with the classes its picture shows."""
    names = [mention.name for mention in vocabulary.find(text)]
    truth = set(shown)
    return CaptionScore(
        mentioned=len(names),
        hallucinated=sum(name not in truth for name in names),
        found=len(set(names) & truth),
        shown=len(truth),
        words=len(text.split()),
    )


RATIOS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "chair_s": ("hallucinating", "captions"),
        "chair_i": ("hallucinated", "mentioned"),
        "recall": ("found", "shown"),
        "words": ("words", "captions"),
    }
)
"""Metric -> the two counts of `CaptionScore` of whose sums it is the ratio."""


def chair(scores: Iterable[CaptionScore]) -> dict[str, float]:
    """CHAIR_S, CHAIR_I, object recall and mean length over captions; NaN for a ratio with a denominator of 0."""
    all_scores = list(scores)

    def total(count: str) -> int:
        return sum(getattr(score, count) for score in all_scores)

    return {name: ratio(total(part), total(whole)) for name, (part, whole) in RATIOS.items()}
