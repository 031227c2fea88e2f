"""What decoding, scoring and signals found, put together as the tokens of an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from saliency_guard.answer import GroundedAnswer, RejectedCandidate, TokenGrounding, Usage
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.decoding.decoder import DecodedToken
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.scoring import SaliencyScores, score_together
from saliency_guard.saliency.shares import plain_shares
from saliency_guard.signals import compute
from saliency_guard.signals.trace import trace_continuation


def written_token(token: DecodedToken, text: str, position: int, tokenizer: Any) -> TokenGrounding:
    """A token that was decoded.

    Args:
        token: what decoding found.
        text: its piece of the answer.
        position: its index in the answer.
        tokenizer: reads the rejected candidates.
    """
    return TokenGrounding(
        text=text,
        token_id=token.token_id,
        position=position,
        logprob=token.logprob,
        saliency=token.saliency,
        threshold=token.threshold,
        shares=token.shares,
        rejected=tuple(
            RejectedCandidate(
                text=tokenizer.decode([one.token_id]),
                token_id=one.token_id,
                logprob=one.logprob,
                saliency=one.saliency,
            )
            for one in token.rejected
        ),
    )


def scored_tokens(scores: SaliencyScores, ids: Sequence[int], pieces: Sequence[str]) -> list[TokenGrounding]:
    """The tokens of an answer that was only scored."""
    saliencies = scores.saliency.tolist()
    logprobs = scores.logprobs.tolist()
    shares = {name: values.tolist() for name, values in scores.shares.items()}
    return [
        TokenGrounding(
            text=piece,
            token_id=token_id,
            position=index,
            logprob=logprobs[index],
            saliency=None if index == 0 else saliencies[index],
            shares=plain_shares({name: values[index] for name, values in shares.items()}),
        )
        for index, (token_id, piece) in enumerate(zip(ids, pieces, strict=True))
    ]


def score_texts(
    sessions: Sequence[Session], answers: Sequence[EncodedText], config: SaliencyConfig, names: tuple[str, ...]
) -> list[list[TokenGrounding]]:
    """Score answers, each after its own prompt.

    Args:
        sessions: one per answer, none of them shared.
        answers: the answers.
        config: what to score.
        names: of the signals that every token is to have.
    """
    if not names:
        found = score_together(sessions, [answer.ids for answer in answers], config)
        return [scored_tokens(scores, answer.ids, answer.pieces) for scores, answer in zip(found, answers, strict=True)]
    traces = (
        trace_continuation(session, answer.ids, config) for session, answer in zip(sessions, answers, strict=True)
    )
    return [
        with_signals(scored_tokens(trace.scores, answer.ids, answer.pieces), compute(trace, names))
        for trace, answer in zip(traces, answers, strict=True)
    ]


def with_signals(tokens: Sequence[TokenGrounding], signals: Mapping[str, Tensor]) -> list[TokenGrounding]:
    """The tokens with what each signal says of them; one that says nothing (NaN, infinite) is left out."""
    values = {name: column.tolist() for name, column in signals.items()}
    return [
        token.model_copy(
            update={"signals": {name: row[index] for name, row in values.items() if math.isfinite(row[index])}}
        )
        for index, token in enumerate(tokens)
    ]


def whole_answer(
    tokens: Sequence[TokenGrounding], reason: Literal["stop", "length"], prompt: int, model_id: str
) -> GroundedAnswer:
    """An answer of its tokens, whose grounding nobody has asked for.

    Args:
        tokens: in order.
        reason: why there are no more.
        prompt: positions of the prompt.
        model_id: who wrote or scored it.
    """
    return GroundedAnswer(
        text="".join(token.text for token in tokens),
        tokens=tuple(tokens),
        finish_reason=reason,
        usage=Usage(prompt_tokens=prompt, completion_tokens=len(tokens), total_tokens=prompt + len(tokens)),
        model_id=model_id,
    )


def with_groundings(tokens: Sequence[TokenGrounding], probabilities: Mapping[int, float]) -> list[TokenGrounding]:
    """The tokens, those that count with the probability that they are grounded."""
    return [token.model_copy(update={"grounding": probabilities.get(index)}) for index, token in enumerate(tokens)]
