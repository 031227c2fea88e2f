"""SGRS, Eq. 7 and Algorithm 1 of "Hallucination Begins Where Saliency Drops": settings and rules, without any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from saliency_guard.answer import RejectedCandidate, TokenGrounding
from saliency_guard.decoding.sampling import draw
from saliency_guard.settings import Settings


class SGRSConfig(Settings):
    """Settings of saliency-guided rejection sampling; the defaults are the paper's.

    Attributes:
        top_k: candidates at a position (K).
        max_resamples: candidates tried before the fallback (R).
        alpha: the threshold as a part of the recent mean score, in (0, 1).
        window: how many recent scores the mean is over (W).
        min_p: candidates less probable than this part of the most probable one are left out. The paper has no such
            floor (0): where the model is sure, its other candidates can be nonsense with a high score.
        fallback: what is taken when every candidate that was tried is rejected: the candidate with the
            ``"highest_score"`` (the paper), or the ``"most_probable"`` one.
        draft_length: how many tokens are drafted before they are scored together; ``"auto"`` follows the rejection
            rate. Changes the cost, never the tokens.
    """

    top_k: Annotated[int, Field(ge=1)] = 5
    max_resamples: Annotated[int, Field(ge=1)] = 3
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.6
    window: Annotated[int, Field(ge=1)] = 5
    min_p: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    fallback: Literal["highest_score", "most_probable"] = "highest_score"
    draft_length: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"


def threshold(config: SGRSConfig, history: Sequence[float]) -> float:
    """Eq. 7: ``alpha`` times the mean of the last ``window`` scores; 0 without history."""
    recent = history[-config.window :]
    return config.alpha * sum(recent) / len(recent) if recent else 0.0


def candidates(scores: Tensor, top_k: int, min_p: float = 0.0) -> list[int]:
    """The most probable tokens, most probable first; tokens that are ruled out (-inf) are left out.

    Args:
        scores: ``[V]`` logits as the logits processors left them.
        top_k: the most candidates.
        min_p: the floor, as a part of the highest probability.
    """
    values, tokens = scores.topk(min(top_k, scores.shape[-1]))
    kept = (values > -float("inf")) & ((values - values[0]).exp() >= min_p)
    token_ids: list[int] = tokens[kept].tolist()
    return token_ids


def is_rejected(token: TokenGrounding) -> bool:
    """Whether a token's score is below the threshold at its position."""
    return token.threshold is not None and token.saliency is not None and token.saliency < token.threshold


def resample(
    config: SGRSConfig,
    rejected: TokenGrounding,
    scored: Mapping[int, TokenGrounding],
    scores: Tensor,
    number: Callable[[int], float | None],
) -> TokenGrounding:
    """Algorithm 1 from round 1 on, then its fallback.

    Args:
        config: the settings.
        rejected: what round 0 drew.
        scored: every candidate at the position with its score, the rejected one included, most probable first.
        scores: ``[V]`` logits as the logits processors left them.
        number: a round's random number in [0, 1); None takes the most probable candidate.

    Returns:
        The token that is taken, with the candidates rejected before it.
    """
    tau = rejected.threshold or 0.0
    tried = [rejected.token_id]
    for round_ in range(1, config.max_resamples):
        left = [token_id for token_id in scored if token_id not in tried]
        if not left:
            break
        token_id = draw(scores, left, number(round_))
        if _score(scored[token_id]) >= tau:
            return _with_rejections(scored[token_id], [scored[before] for before in tried])
        tried.append(token_id)
    rank = _score if config.fallback == "highest_score" else _logprob
    best = max(scored.values(), key=rank)
    return _with_rejections(best, [scored[before] for before in tried if before != best.token_id])


def _score(token: TokenGrounding) -> float:
    return token.saliency if token.saliency is not None else -1.0


def _logprob(token: TokenGrounding) -> float:
    return token.logprob


def _with_rejections(token: TokenGrounding, rejected: Sequence[TokenGrounding]) -> TokenGrounding:
    listed = tuple(
        RejectedCandidate(token_id=other.token_id, logprob=other.logprob, saliency=_score(other)) for other in rejected
    )
    return token.model_copy(update={"rejected": listed})
