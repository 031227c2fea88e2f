"""Effect of SGRS and LocoRE: captions and yes/no answers about the same pictures with and without them."""

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
_ANSWER_LENGTH = 4  # Enough to decide between yes and no, also for "There is no dog".

_REJECTIONS, _TOKENS = "rejections", "tokens"
_COLUMNS = (*dict.fromkeys(count for counts in chair.RATIOS.values() for count in counts), _REJECTIONS, _TOKENS)


def _metric(part: str, whole: str, scale: float = 1.0) -> Callable[[Floats], Floats]:
    """The ratio of two of `_COLUMNS`, from their sums ``[B, columns]`` to ``[B]``."""
    numerator, denominator = _COLUMNS.index(part), _COLUMNS.index(whole)
    return lambda sums: scale * sums[:, numerator] / sums[:, denominator]


_METRICS: MappingProxyType[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        **{name: _metric(*counts) for name, counts in chair.RATIOS.items()},
        "rejections_per_100_tokens": _metric(_REJECTIONS, _TOKENS, 100.0),
    }
)


@dataclass(frozen=True, slots=True)
class GuardResult:
    """Results for captions with a guard.

    Attributes:
        guard: name of the guard.
        sampled: whether tokens were sampled (temperature 1) or greedy.
        values: CHAIR_S, CHAIR_I, recall, words, rejections per 100 tokens.
        differences: each value minus the value without guard on the same pictures; empty for ``"nothing"``.
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
    """``[pictures, columns]``: the counts `_COLUMNS` of each caption; see `compare`."""
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
    """Caption the same pictures with several guards.

    Args:
        lvlm: the model.
        pictures: the pictures to caption.
        guards: guards by name; without ``baseline`` the others are compared with the first one.
        sampled: sample at temperature 1 (seeded by picture) instead of greedy decoding.
        max_new_tokens: the same for all captions, because CHAIR depends on length.
        baseline: counts of the first guard of an earlier call, of the same pictures.
        on_caption: called after each caption.

    Returns:
        The results, and the counts to pass to a later call as ``baseline``.
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
    """Two questions per picture: about an object that it shows, and about one that it does not show."""
    questions: list[_Question] = []
    for picture in pictures:
        rng = random.Random(f"{picture.scene.seed} {kind}")  # independent of the scene's random numbers
        present = rng.choice(sorted(picture.scene.counts))
        absent = language.negatives(picture.scene, kind, rng, 1)[0]
        for name, truth in ((present, True), (absent, False)):
            questions.append(_Question(picture, language.presence(picture.scene, name).question, truth))
    return questions


@dataclass(frozen=True, slots=True)
class AnswersResult:
    """Results for yes/no answers with a guard.

    Attributes:
        guard: name of the guard.
        sampled: whether the answers were sampled (temperature 1) or greedy.
        values: POPE's metrics by kind of negatives.
        differences: accuracy minus accuracy without guard, by kind; empty for the first guard.
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
    """Answer the same POPE questions with several guards; the others are compared with the first one.

    Args:
        lvlm: the model.
        pictures: the pictures; two questions per picture and kind of negatives.
        guards: guards by name.
        sampled: sample at temperature 1 instead of greedy decoding.
        on_answer: called after each answer.
    """
    results: list[AnswersResult] = []
    baseline: dict[str, Floats] = {}
    for name, (sgrs, locore) in guards.items():
        values: dict[str, dict[str, float]] = {}
        differences: dict[str, Interval] = {}
        for kind in get_args(language.Negatives):
            pairs: list[tuple[bool, bool]] = []
            for question in world_questions(pictures, kind):
                answer = lvlm.generate(
                    chat(question.picture.image, question.text),
                    max_new_tokens=_ANSWER_LENGTH,
                    temperature=1.0 if sampled else 0.0,
                    seed=question.picture.scene.seed,
                    sgrs=sgrs,
                    locore=locore,
                    saliency=None,
                )
                pairs.append((question.truth, says_yes(answer.text)))
                on_answer()
            values[kind] = pope(pairs)
            correct = np.array([truth == is_yes for truth, is_yes in pairs], dtype=np.float64).reshape(-1, 2)
            counts = np.stack([correct.sum(axis=1), np.full(len(correct), 2.0)], axis=1)
            if kind in baseline:
                differences[kind] = paired_difference(lambda sums: sums[:, 0] / sums[:, 1], baseline[kind], counts)
            else:
                baseline[kind] = counts
        results.append(AnswersResult(name, sampled, values, differences))
    return results


def world_pope(lvlm: LVLM, pictures: Sequence[WorldPicture]) -> dict[str, dict[str, float]]:
    """POPE on the picture world without guard, in batches, by kind of negatives."""
    results: dict[str, dict[str, float]] = {}
    for kind in get_args(language.Negatives):
        questions = world_questions(pictures, kind)
        answers: list[str] = []
        for batch in batches(questions, _BATCH):
            token_ids = write_answers(
                lvlm,
                [question.picture.image for question in batch],
                [question.text for question in batch],
                max_new_tokens=_ANSWER_LENGTH,
            )
            answers += [lvlm.tokenizer.decode(ids) for ids in token_ids]
        pairs = zip(questions, answers, strict=True)
        results[kind] = pope((question.truth, says_yes(answer)) for question, answer in pairs)
    return results
