"""CHAIR: how much of what a caption names is not there (Rohrbach et al., arXiv 1809.02156).

The truth here is what is annotated (or drawn). The published numbers also count as true what people's own
captions of a COCO picture name, and know compound words such as "baseball bat" by a list: ours come out somewhat
higher on COCO, and compare with each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import MappingProxyType

from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.statistics import ratio


@dataclass(frozen=True, slots=True)
class CaptionScore:
    """Counts of one caption.

    Attributes:
        mentioned: object mentions, repetitions included.
        hallucinated: those of them that the picture does not show.
        found: classes shown and mentioned.
        shown: classes shown.
        words: words of the caption.
    """

    mentioned: int
    hallucinated: int
    found: int
    shown: int
    words: int

    @property
    def captions(self) -> int:
        """One, for sums over captions."""
        return 1

    @property
    def hallucinating(self) -> int:
        """One where anything is hallucinated."""
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
"""Metric -> the counts of `CaptionScore` whose sums it divides."""


def chair(scores: Iterable[CaptionScore]) -> dict[str, float]:
    """CHAIR_S, CHAIR_I, object recall and mean length over captions; each is NaN where nothing counts."""
    known = list(scores)

    def total(count: str) -> int:
        return sum(getattr(score, count) for score in known)

    return {name: ratio(total(part), total(whole)) for name, (part, whole) in RATIOS.items()}
