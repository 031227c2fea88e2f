"""What decoding, scoring and signals found, put together as the tokens of an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from saliency_guard.decoding import DecodedToken, plain_shares
from saliency_guard.grounding import RejectedCandidate, TokenGrounding
from saliency_guard.saliency import SaliencyScores


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


def with_signals(tokens: Sequence[TokenGrounding], signals: Mapping[str, Tensor]) -> list[TokenGrounding]:
    """The tokens with what each signal says of them; one that says nothing (NaN) is left out."""
    values = {name: column.tolist() for name, column in signals.items()}
    return [
        token.model_copy(
            update={"signals": {name: row[index] for name, row in values.items() if not math.isnan(row[index])}}
        )
        for index, token in enumerate(tokens)
    ]
