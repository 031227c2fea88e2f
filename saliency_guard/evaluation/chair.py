"""CHAIR: how much of what a caption names is not there (Rohrbach et al., arXiv 1809.02156).

The truth here is what is annotated (or drawn). The published numbers also count as true what people's own
captions of a COCO picture name, and know compound words such as "baseball bat" by a list: ours come out somewhat
higher on COCO, and compare with each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from saliency_guard.evaluation.mentions import ObjectVocabulary


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


def chair(scores: Iterable[CaptionScore]) -> dict[str, float]:
    """CHAIR_S, CHAIR_I, object recall and mean length over captions; each is NaN where nothing counts."""
    known = list(scores)
    mentioned = sum(score.mentioned for score in known)
    shown = sum(score.shown for score in known)
    return {
        "chair_s": _ratio(sum(score.hallucinated > 0 for score in known), len(known)),
        "chair_i": _ratio(sum(score.hallucinated for score in known), mentioned),
        "recall": _ratio(sum(score.found for score in known), shown),
        "words": _ratio(sum(score.words for score in known), len(known)),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
