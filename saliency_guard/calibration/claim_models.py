"""From what is seen of claims to their probabilities, and to that of the whole answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from saliency_guard.calibration.claim_features import ANSWER_FEATURES, answer_summary
from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.linear import LinearModel, ProbabilityMap
from saliency_guard.calibration.results import Judgement
from saliency_guard.claims.extract import ClaimKind
from saliency_guard.settings import Frozen


class ClaimModel(Frozen):
    """The model of one kind of claims.

    Attributes:
        kind: of the claims.
        model: log-odds of a claim.
        map: their probability.
    """

    kind: ClaimKind
    model: LinearModel
    map: ProbabilityMap


class FittedModels(Protocol):
    """What says how probable claims and answers are; attributes as in `Calibrator`."""

    @property
    def kinds(self) -> tuple[ClaimModel, ...]:
        """A model for each kind of claim."""

    @property
    def claims_labelled(self) -> bool:
        """Whether claims were labelled, not answers alone."""

    @property
    def answer_model(self) -> LinearModel | None:
        """Log-odds of an answer, from those of its claims."""

    @property
    def answer_map(self) -> ProbabilityMap:
        """The probability of an answer."""


def require_single_models(fitted: FittedModels) -> None:
    """Refuse two models of one kind of claims, and a model of answers that takes anything but `answer_summary`.

    Raises:
        ValueError: if they do not fit.
    """
    names = [each.kind for each in fitted.kinds]
    if len(set(names)) != len(names):
        msg = f"kinds={names} holds one twice"
        raise ValueError(msg)
    if fitted.answer_model is not None and len(fitted.answer_model.median) != ANSWER_FEATURES:
        msg = f"answer_model has {len(fitted.answer_model.median)} features, and an answer has {ANSWER_FEATURES}"
        raise ValueError(msg)


def judge_claims(
    fitted: FittedModels, kinds: Sequence[ClaimKind], features: Floats, domain: tuple[float, ...] = ()
) -> Judgement:
    """What fitted models say of an answer that they cover.

    Args:
        fitted: the models.
        kinds: of its claims.
        features: ``[claims, k]`` as the models take them.
        domain: p-values of its pictures, for the judgement.
    """
    if not kinds:
        reason = "the answer makes no claim that could be judged"
        return Judgement(claims=(), answer=None, reason=reason, domain=domain)
    models = {each.kind: each for each in fitted.kinds}
    odds = [
        models[kind].model.log_odds(row[None])[0] if kind in models else np.nan
        for kind, row in zip(kinds, features, strict=True)
    ]
    claims = tuple(
        float(models[kind].map.probability(np.array([value]))[0]) if kind in models and fitted.claims_labelled else None
        for kind, value in zip(kinds, odds, strict=True)
    )
    missing = next((kind for kind in kinds if kind not in models), None)
    if missing is not None:
        reason = f"the answer makes a claim of a kind that the calibration does not cover ({missing})"
        return Judgement(claims=claims, answer=None, reason=reason, domain=domain)
    if fitted.answer_model is None:
        reason = "the calibration was fitted on single claims: it says nothing about whole answers"
        return Judgement(claims=claims, answer=None, reason=reason, domain=domain)
    summary = answer_summary(np.array(odds), kinds)[None]
    together = float(fitted.answer_map.probability(fitted.answer_model.log_odds(summary))[0])
    # All claims are true no more often than the least of them.
    answer = min([together, *(value for value in claims if value is not None)])
    return Judgement(claims=claims, answer=answer, domain=domain)
