"""What the guards change: captions and yes/no answers of the same pictures with and without them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.evaluation import chair
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.pope import pope, says_yes
from saliency_guard.evaluation.statistics import Interval, paired_difference
from saliency_guard.evaluation.world import WorldPicture, batches, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.scenes import language

Guard = tuple[SGRSConfig | None, LocoREConfig | None]

GUARDS: MappingProxyType[str, Guard] = MappingProxyType(
    {
        "nothing": (None, None),
        "LocoRE": (None, LocoREConfig()),
        "SGRS": (SGRSConfig(), None),
        "SGRS + LocoRE": (SGRSConfig(), LocoREConfig()),
    }
)
ALPHAS = (0.1, 0.3, 0.6, 0.9)
BETAS = (0.05, 0.15, 0.5, 1.0)
FLOORS = (0.1, 0.5)

_BATCH = 64
_ANSWER_LENGTH = 4  # The decision and a little more: "There is no dog" counts, too.

_REJECTIONS, _TOKENS = "rejections", "tokens"
_COLUMNS = (*dict.fromkeys(count for counts in chair.RATIOS.values() for count in counts), _REJECTIONS, _TOKENS)


def _metric(part: str, whole: str, scale: float = 1.0) -> Callable[[Floats], Floats]:
    """A ratio of two of `_COLUMNS`, from their sums ``[B, columns]`` to ``[B]``."""
    above, below = _COLUMNS.index(part), _COLUMNS.index(whole)
    return lambda sums: scale * sums[:, above] / sums[:, below]


_METRICS: MappingProxyType[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        **{name: _metric(*counts) for name, counts in chair.RATIOS.items()},
        "rejections_per_100_tokens": _metric(_REJECTIONS, _TOKENS, 100.0),
    }
)


@dataclass(frozen=True, slots=True)
class GuardResult:
    """Captions under one guard.

    Attributes:
        guard: its name.
        sampled: whether tokens were sampled (temperature 1) or greedy.
        values: CHAIR_S, CHAIR_I, recall, words, rejections per 100 tokens.
        differences: each minus that without guard on the same pictures; empty for ``"nothing"``.
    """

    guard: str
    sampled: bool
    values: dict[str, float]
    differences: dict[str, Interval]


def caption_counts(
    lvlm: LVLM,
    pictures: Sequence[WorldPicture],
    guard: Guard,
    *,
    sampled: bool,
    max_new_tokens: int,
    on_caption: Callable[[], None],
) -> Floats:
    """``[pictures, columns]`` counts, `_COLUMNS` of each caption; see `compare`."""
    vocabulary = ObjectVocabulary.world()
    sgrs, locore = guard
    rows: list[list[float]] = []
    for picture in pictures:
        answer = lvlm.generate(
            chat(picture.image, language.DESCRIBE),
            max_new_tokens=max_new_tokens,
            temperature=1.0 if sampled else 0.0,
            seed=picture.scene.seed,
            sgrs=sgrs,
            locore=locore,
            saliency=None,
        )
        score = chair.score_caption(answer.text, picture.scene.counts, vocabulary)
        counts = {
            _REJECTIONS: sum(len(token.rejected) for token in answer.tokens),
            _TOKENS: len(answer.tokens),
        }
        rows.append([counts[name] if name in counts else getattr(score, name) for name in _COLUMNS])
        on_caption()
    return np.array(rows, dtype=np.float64)


def compare(
    lvlm: LVLM,
    pictures: Sequence[WorldPicture],
    guards: Mapping[str, Guard],
    *,
    sampled: bool,
    max_new_tokens: int = 96,
    baseline: Floats | None = None,
    on_caption: Callable[[], None] = lambda: None,
) -> tuple[list[GuardResult], Floats]:
    """Caption the same pictures under several guards.

    Args:
        lvlm: the model.
        pictures: what to caption.
        guards: by name; without ``baseline`` the first one is what the others are compared with.
        sampled: sample at temperature 1 (seeded by picture) instead of greedily.
        max_new_tokens: the same for all: CHAIR depends on length.
        baseline: counts of an earlier call's first guard, of the same pictures.
        on_caption: called after each caption.

    Returns:
        The results, and the counts to hand to a later call as ``baseline``.
    """
    results: list[GuardResult] = []
    for name, guard in guards.items():
        counts = caption_counts(
            lvlm, pictures, guard, sampled=sampled, max_new_tokens=max_new_tokens, on_caption=on_caption
        )
        differences: dict[str, Interval] = {}
        if baseline is None:
            baseline = counts
        else:
            differences = {key: paired_difference(metric, baseline, counts) for key, metric in _METRICS.items()}
        sums = counts.sum(axis=0, keepdims=True)
        with np.errstate(invalid="ignore"):
            values = {key: float(metric(sums)[0]) for key, metric in _METRICS.items()}
        results.append(GuardResult(name, sampled, values, differences))
    assert baseline is not None  # noqa: S101 - set by the first guard
    return results, baseline


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    picture: WorldPicture
    text: str
    truth: bool


def world_questions(pictures: Iterable[WorldPicture], kind: language.Negatives) -> list[_Question]:
    """Two questions a picture: for something it shows, and for something it does not."""
    questions: list[_Question] = []
    for picture in pictures:
        rng = random.Random(f"{picture.scene.seed} {kind}")  # not the stream that drew the scene
        present = rng.choice(sorted(picture.scene.counts))
        absent = language.negatives(picture.scene, kind, rng, 1)[0]
        for name, truth in ((present, True), (absent, False)):
            questions.append(_Question(picture, language.presence(picture.scene, name).question, truth))
    return questions


@dataclass(frozen=True, slots=True)
class AnswersResult:
    """Yes/no answers under one guard.

    Attributes:
        guard: its name.
        sampled: whether the answers were sampled (temperature 1) or greedy.
        values: POPE's metrics by kind of negatives.
        differences: accuracy minus that without guard, by kind; empty for the first guard.
    """

    guard: str
    sampled: bool
    values: dict[str, dict[str, float]]
    differences: dict[str, Interval]


def compare_answers(
    lvlm: LVLM,
    pictures: Sequence[WorldPicture],
    guards: Mapping[str, Guard],
    *,
    sampled: bool,
    on_answer: Callable[[], None] = lambda: None,
) -> list[AnswersResult]:
    """Ask the same POPE questions under several guards; the first is what the others are compared with.

    Args:
        lvlm: the model.
        pictures: two questions each and kind.
        guards: by name.
        sampled: sample at temperature 1 instead of greedily.
        on_answer: called after each answer.
    """
    results: list[AnswersResult] = []
    before: dict[str, Floats] = {}
    for name, (sgrs, locore) in guards.items():
        values: dict[str, dict[str, float]] = {}
        differences: dict[str, Interval] = {}
        for kind in get_args(language.Negatives):
            pairs: list[tuple[bool, bool]] = []
            for one in world_questions(pictures, kind):
                answer = lvlm.generate(
                    chat(one.picture.image, one.text),
                    max_new_tokens=_ANSWER_LENGTH,
                    temperature=1.0 if sampled else 0.0,
                    seed=one.picture.scene.seed,
                    sgrs=sgrs,
                    locore=locore,
                    saliency=None,
                )
                pairs.append((one.truth, says_yes(answer.text)))
                on_answer()
            values[kind] = pope(pairs)
            right = np.array([truth == said for truth, said in pairs], dtype=np.float64).reshape(-1, 2)
            counts = np.stack([right.sum(axis=1), np.full(len(right), 2.0)], axis=1)
            if kind in before:
                differences[kind] = paired_difference(lambda sums: sums[:, 0] / sums[:, 1], before[kind], counts)
            else:
                before[kind] = counts
        results.append(AnswersResult(name, sampled, values, differences))
    return results


def world_pope(lvlm: LVLM, pictures: Sequence[WorldPicture]) -> dict[str, dict[str, float]]:
    """POPE on the picture world without guard, many questions at a time, by kind of negatives."""
    results: dict[str, dict[str, float]] = {}
    for kind in get_args(language.Negatives):
        questions = world_questions(pictures, kind)
        said: list[str] = []
        for batch in batches(questions, _BATCH):
            written = write_answers(
                lvlm,
                [one.picture.image for one in batch],
                [one.text for one in batch],
                max_new_tokens=_ANSWER_LENGTH,
            )
            said += [lvlm.tokenizer.decode(ids) for ids in written]
        results[kind] = pope((one.truth, says_yes(text)) for one, text in zip(questions, said, strict=True))
    return results
