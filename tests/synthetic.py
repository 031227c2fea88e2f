"""Labelled records without a model: signals whose relation to the truth is known."""

from __future__ import annotations

import numpy as np

from saliency_guard import (
    GroundedAnswer,
    GroundingRecord,
    LabelledClaim,
    Records,
    SaliencyConfig,
    TokenGrounding,
    Usage,
    VerifyConfig,
)
from saliency_guard.calibration.features import SUMMARIES
from saliency_guard.calibration.fingerprint import Fingerprint
from saliency_guard.calibration.records import encoded
from saliency_guard.claims.extract import ClaimKind

FINGERPRINT = Fingerprint(
    model_id="made up", weights="0" * 16, dtype="float32", template="1" * 16, saliency=SaliencyConfig()
)


def record(
    picture: int,
    truths: list[bool],
    rng: np.random.Generator,
    *,
    draw: int = 0,
    question: str = "What is there?",
    strength: float = 2.0,
    labelled: bool = True,
    kind: ClaimKind = "object",
) -> GroundingRecord:
    """An answer of one word a claim, between articles; its entropy rises where it is wrong."""
    tokens: list[TokenGrounding] = []
    claims: list[LabelledClaim] = []
    for truth in truths:
        tokens.append(TokenGrounding(text=" the", token_id=1, position=len(tokens), logprob=-0.1, saliency=0.1))
        signals = dict.fromkeys(SUMMARIES, 0.0) | {"nll": float(rng.normal())}
        signals["entropy"] = float(rng.normal() + strength * (0.5 - truth))
        start = sum(len(token.text) for token in tokens) + 1
        claims.append(
            LabelledClaim(
                kind=kind, start=start, stop=start + 3, tokens=(len(tokens),), grounded=truth if labelled else None
            )
        )
        tokens.append(
            TokenGrounding(text=" cat", token_id=2, position=len(tokens), logprob=-1.0, saliency=0.1, signals=signals)
        )
    return GroundingRecord(
        picture=f"picture {picture}",
        question=question,
        draw=draw,
        answer=GroundedAnswer(
            text="".join(token.text for token in tokens),
            tokens=tuple(tokens),
            finish_reason="stop",
            usage=Usage(prompt_tokens=1, completion_tokens=len(tokens), total_tokens=1 + len(tokens)),
            model_id="made up",
        ),
        claims=tuple(claims),
        grounded=all(truths),
        vectors={name: encoded(rng.normal(size=(len(claims), 3))) for name in ("saliency", "attention", "evidence")},
    )


def records(
    count: int,
    *,
    seed: int = 0,
    draws: int = 1,
    rate: float = 0.3,
    first: int = 0,
    strength: float = 2.0,
    labelled: bool = True,
) -> Records:
    """Answers about ``count`` pictures; a claim is wrong at ``rate``."""
    rng = np.random.default_rng(seed)
    return Records(
        FINGERPRINT,
        [
            record(
                first + picture,
                [bool(rng.random() > rate) for _ in range(rng.integers(1, 4))],
                rng,
                draw=draw,
                strength=strength,
                labelled=labelled,
            )
            for picture in range(count)
            for draw in range(draws)
        ],
    )


def document_records(
    count: int, *, seed: int = 0, first: int = 0, tells: float = 2.0, kind: ClaimKind = "statement", documents: int = 1
) -> Records:
    """Answers about text documents of 100 characters and more, a claim each, half of them wrong.

    The log-odds of the verification of true and of wrong ones are normal and lie ``tells`` standard deviations apart.
    """
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        truth = bool(rng.random() < 0.5)
        plain = record(first + number, [truth], rng, kind=kind)
        verified = 1 / (1 + np.exp(-rng.normal() - tells * (truth - 0.5)))
        claims = tuple(claim.model_copy(update={"verified": float(verified)}) for claim in plain.claims)
        update = {
            "picture": f"documents {first + number}",
            "pictures": 0,
            "document_lengths": (100 + number % 50,) * documents,
            "claims": claims,
            "vectors": {},
        }
        made.append(plain.model_copy(update=update))
    return Records(FINGERPRINT, made, verify=VerifyConfig())


def ratios(*values: float) -> GroundedAnswer:
    """An answer whose tokens have these saliency ratios."""
    tokens = tuple(
        TokenGrounding(
            text=" cat", token_id=5, position=at, logprob=-value, saliency=None, signals={"saliency_ratio": value}
        )
        for at, value in enumerate(values)
    )
    usage = Usage(prompt_tokens=1, completion_tokens=len(tokens), total_tokens=1 + len(tokens))
    return GroundedAnswer(text=" cat" * len(values), tokens=tokens, finish_reason="stop", usage=usage, model_id="none")
