"""Effect of SGRS, LocoRE, repair and retries: captions of the same pictures with and without them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.features import Floats
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.errors import UnjudgedError
from saliency_guard.evaluation import chair
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.statistics import Interval, paired_difference
from saliency_guard.evaluation.world import WorldPicture
from saliency_guard.guard.outcome import Attempt
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.guard.retry import RetryPlan
from saliency_guard.lvlm import LVLM
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.scenes import language
from saliency_guard.scenes.claims import is_true, world_claims
from saliency_guard.scenes.scene import Scene


@dataclass(frozen=True, slots=True)
class Guard:
    """What is done about hallucination.

    Attributes:
        sgrs: saliency-guided rejection.
        locore: attention to recent output strengthened.
        saliency: what SGRS looks at; None is the default.
        repair: claims whose grounding is below this are left out of the finished caption.
        policy: what is done with a caption whose grounding is low; it gives out the caption.
    """

    sgrs: SGRSConfig | None = None
    locore: LocoREConfig | None = None
    saliency: SaliencyConfig | None = None
    repair: float | None = None
    policy: GuardPolicy | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Names it in a journal."""
        return str(self) if self.policy is None else f"{self} {self.policy.model_dump_json(exclude_defaults=True)}"


RELEASED_LAYERS = (6 / 32, 9 / 32)
"""The target layers of the paper's released code: 6 to 8 of 32."""

GUARDS: MappingProxyType[str, Guard] = MappingProxyType(
    {
        "nothing": Guard(),
        "LocoRE": Guard(locore=LocoREConfig()),
        "SGRS": Guard(sgrs=SGRSConfig()),
        "SGRS + LocoRE": Guard(sgrs=SGRSConfig(), locore=LocoREConfig()),
    }
)
_REPAIRS = (0.5, 0.9)
_RETRIES = 2


def repair_guards(calibrator: Calibrator | None) -> dict[str, Guard]:
    """Repairs at fixed thresholds, and at those that the calibration guarantees the least risk of each kind for."""
    if calibrator is None:
        return {}
    guards = {f"repair below {threshold}": Guard(repair=threshold) for threshold in _REPAIRS}
    for kind, words in (("any", "P(any wrong claim)"), ("fraction", "E[wrong fraction]")):
        fitting = [each for each in calibrator.repairs if each.kind == kind]
        if fitting:
            least = min(fitting, key=lambda guarantee: guarantee.risk)
            guards[f"repair, {words} at most {least.risk:g}"] = Guard(repair=least.threshold)
    return guards


def retry_guards(calibrator: Calibrator | None) -> dict[str, Guard]:
    """Retries of whole captions and of what fails in them, by themselves and with a repair of what is left."""
    if calibrator is None:
        return {}
    guards: dict[str, Guard] = {}
    for after, on_low in (("", "flag"), (", then repair", "repair")):
        for again, words in (("whole", "retries"), ("failed", "retries of what fails")):
            policy = GuardPolicy(
                min_grounding=_REPAIRS[-1],
                max_retries=_RETRIES,
                retry=RetryPlan(again=again),
                on_low=on_low,
            )
            guards[f"{_RETRIES} {words} below {_REPAIRS[-1]}{after}"] = Guard(policy=policy)
    return guards


def sweep_guards() -> dict[str, Guard]:
    """SGRS by threshold, floor, layers and fallback, and LocoRE by strength."""
    released = SaliencyConfig(layers=RELEASED_LAYERS)
    probable = SGRSConfig(fallback="most_probable")
    guards = {f"SGRS, alpha {alpha}": Guard(sgrs=SGRSConfig(alpha=alpha)) for alpha in (0.1, 0.3, 0.6, 0.9)}
    guards |= {f"SGRS, min_p {floor}": Guard(sgrs=SGRSConfig(min_p=floor)) for floor in (0.1, 0.5)}
    guards |= {
        "SGRS, most probable fallback": Guard(sgrs=probable),
        "SGRS, first half of the layers": Guard(sgrs=SGRSConfig(), saliency=SaliencyConfig(layers=(0.0, 0.5))),
        "SGRS, all layers": Guard(sgrs=SGRSConfig(), saliency=SaliencyConfig(layers=(0.0, 1.0))),
        "SGRS, layers of the released code": Guard(sgrs=SGRSConfig(), saliency=released),
        "SGRS, released layers, most probable fallback": Guard(sgrs=probable, saliency=released),
    }
    return guards | {f"LocoRE, beta {beta}": Guard(locore=LocoREConfig(beta=beta)) for beta in (0.05, 0.5, 1.0)}


_EXTRA = ("true_claims", "wrong_claims", "labelled_claims", "empty", "unjudged", "rejections", "tokens")
_COLUMNS = (*dict.fromkeys(count for counts in chair.RATIOS.values() for count in counts), *_EXTRA)


def _metric(part: str, whole: str, scale: float = 1.0) -> Callable[[Floats], Floats]:
    """The ratio of two of `_COLUMNS`, from their sums ``[B, columns]`` to ``[B]``."""
    numerator, denominator = _COLUMNS.index(part), _COLUMNS.index(whole)
    return lambda sums: scale * sums[:, numerator] / sums[:, denominator]


_METRICS: MappingProxyType[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        **{name: _metric(*counts) for name, counts in chair.RATIOS.items()},
        "wrong_claims": _metric("wrong_claims", "labelled_claims"),
        "true_claims": _metric("true_claims", "captions"),
        "empty": _metric("empty", "captions"),
        "unjudged": _metric("unjudged", "captions"),
        "rejections_per_100_tokens": _metric("rejections", "tokens", 100.0),
    }
)


@dataclass(frozen=True, slots=True)
class GuardResult:
    """Results for captions with a guard.

    Attributes:
        guard: name of the guard.
        sampled: whether tokens were sampled (temperature 1) or greedy.
        values: CHAIR_S, CHAIR_I, recall, words; of all claims the part that is wrong, and how many are true per
            caption; the part of the captions that is empty, and the part that a repair could not judge and left as it
            was; rejections per 100 tokens.
        differences: each value minus the value without guard on the same pictures; empty for ``"nothing"``.
    """

    guard: str
    sampled: bool
    values: dict[str, float]
    differences: dict[str, Interval]

    @property
    def true_claims_kept(self) -> float:
        """True claims as a part of those without guard."""
        difference = self.differences.get("true_claims")
        true = self.values["true_claims"]
        return 1.0 if difference is None else true / (true - difference.value)


@dataclass(frozen=True, slots=True)
class _Caption:
    """A caption, and how it came about."""

    text: str
    rejections: int
    tokens: int
    unjudged: bool = False

    def counts(self, scene: Scene, vocabulary: ObjectVocabulary) -> list[float]:
        """The counts of `_COLUMNS`."""
        score = chair.score_caption(self.text, scene.counts, vocabulary)
        truths = [is_true(claim, scene) for claim in world_claims(self.text, language.DESCRIBE)]
        counts: dict[str, float] = {
            "true_claims": truths.count(True),
            "wrong_claims": truths.count(False),
            "labelled_claims": len(truths) - truths.count(None),
            "empty": float(not self.text.strip()),
            "unjudged": float(self.unjudged),
            "rejections": self.rejections,
            "tokens": self.tokens,
        }
        return [counts[name] if name in counts else float(getattr(score, name)) for name in _COLUMNS]


def _written(lvlm: LVLM, picture: WorldPicture, guard: Guard, *, sampled: bool, max_new_tokens: int) -> GroundedAnswer:
    """A caption; judged where it is to be repaired."""
    saliency = guard.saliency
    if guard.repair is not None and lvlm.calibrator is not None:
        saliency = lvlm.calibrator.fingerprint.saliency
    return lvlm.generate(
        chat(picture.image, language.DESCRIBE),
        **_plain(picture, sampled=sampled, max_new_tokens=max_new_tokens),
        sgrs=guard.sgrs,
        locore=guard.locore,
        saliency=saliency,
    )


def _plain(picture: WorldPicture, *, sampled: bool, max_new_tokens: int) -> dict[str, Any]:
    temperature = 1.0 if sampled else 0.0
    return {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": picture.scene.seed}


def _decided(
    lvlm: LVLM, picture: WorldPicture, policy: GuardPolicy, made: dict[str, tuple[Attempt, ...]], **plain: Any
) -> _Caption:
    """What a policy gives out; it is not judged where the attempt decided for has no grounding.

    Args:
        lvlm: the model.
        picture: to be captioned.
        policy: decides.
        made: attempts of policies that retry alike; those of this one are added.
        **plain: how the caption is written.
    """
    alike = policy.model_copy(update={"on_low": "flag"}).model_dump_json()
    if alike not in made:
        saliency = lvlm.calibrator.fingerprint.saliency if lvlm.calibrator is not None else None
        made[alike] = policy.run(lvlm, chat(picture.image, language.DESCRIBE), saliency=saliency, **plain).attempts
    outcome = policy.decide(made[alike])
    tokens = sum(len(attempt.answer.tokens) for attempt in outcome.attempts)
    return _Caption(outcome.text, 0, tokens, outcome.reason is not None and outcome.decision != "repaired")


def _caption(answer: GroundedAnswer, guard: Guard) -> _Caption:
    text, unjudged = answer.text, False
    if guard.repair is not None:
        try:
            text = answer.repaired(threshold=guard.repair).text
        except UnjudgedError:  # What a user gets of it, marked as unjudged.
            unjudged = True
    rejections = sum(len(token.rejected) for token in answer.tokens)
    return _Caption(text, rejections, len(answer.tokens), unjudged)


def _captions(
    lvlm: LVLM,
    pictures: Sequence[WorldPicture],
    guards: Mapping[str, Guard],
    *,
    sampled: bool,
    max_new_tokens: int,
    journal: Journal | None,
    on_caption: Callable[[], None],
) -> dict[str, list[_Caption]]:
    """A caption of each picture with each guard; those of the journal are not written again."""
    captions: dict[str, list[_Caption]] = {name: [] for name in guards}
    mode = "sampled" if sampled else "greedy"
    for picture in pictures:
        judged: GroundedAnswer | None = None  # One answer serves all repairs.
        attempts: dict[str, tuple[Attempt, ...]] = {}
        for name, guard in guards.items():
            key = f"caption {picture.scene.seed} {mode} {guard.key}"
            known = journal.results.get(key) if journal is not None else None
            if known is not None:
                caption = _Caption(**json.loads(known))
            else:
                if guard.policy is not None:
                    plain = _plain(picture, sampled=sampled, max_new_tokens=max_new_tokens)
                    caption = _decided(lvlm, picture, guard.policy, attempts, **plain)
                else:
                    again = judged if guard.repair is not None else None
                    answer = again or _written(lvlm, picture, guard, sampled=sampled, max_new_tokens=max_new_tokens)
                    judged = answer if guard.repair is not None else judged
                    caption = _caption(answer, guard)
                if journal is not None:
                    parts = (caption.text, caption.rejections, caption.tokens, caption.unjudged)
                    journal.add(key, json.dumps(dict(zip(_Caption.__slots__, parts, strict=True))))
            captions[name].append(caption)
            on_caption()
    return captions


def compare(
    lvlm: LVLM,
    pictures: Sequence[WorldPicture],
    guards: Mapping[str, Guard],
    *,
    sampled: bool,
    max_new_tokens: int = 96,
    baseline: Floats | None = None,
    journal: Journal | None = None,
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
        journal: keeps captions, so that a run that was stopped goes on.
        on_caption: called after each caption.

    Returns:
        The results, and the counts to pass to a later call as ``baseline``.
    """
    vocabulary = ObjectVocabulary.world()
    results: list[GuardResult] = []
    captions = _captions(
        lvlm,
        pictures,
        guards,
        sampled=sampled,
        max_new_tokens=max_new_tokens,
        journal=journal,
        on_caption=on_caption,
    )
    for name, written in captions.items():
        pairs = zip(written, pictures, strict=True)
        counts = np.array([caption.counts(picture.scene, vocabulary) for caption, picture in pairs], dtype=np.float64)
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
