"""What comes out: an answer, and for every token what it rests on. Immutable, plain Python values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from saliency_guard.settings import Frozen, Probability

Share = Annotated[float, Field(ge=0.0, le=1.001, allow_inf_nan=False)]
"""A part of a whole that was added up in the model's precision."""


ClaimKind = Literal["object", "number", "place", "yes_no", "statement"]


class RejectedCandidate(Frozen):
    """A candidate that SGRS rejected.

    Attributes:
        text: the token's own text; empty where no tokenizer is at hand (inside transformers' `generate`).
        token_id: its id.
        logprob: its log-probability.
        saliency: its score (Eq. 6), below the threshold at its position.
    """

    text: str = ""
    token_id: int
    logprob: float
    saliency: float


class TokenGrounding(Frozen):
    """One token of an answer.

    Attributes:
        text: its piece of the text; the pieces of all tokens concatenate to the answer's text.
        token_id: its id.
        position: its index in the answer, from 0.
        logprob: its natural log-probability under the model.
        saliency: Eq. 6; None for the first token, which has no generated token before it.
        threshold: Eq. 7 at its position; None where SGRS was off.
        shares: what part of its predictor row's saliency lies on each source; they sum to 1.
        rejected: the candidates rejected before it was taken.
        signals: further detection signals by name.
        grounding: that of the claim it decides; None for a token that decides none, and where no calibration covers it.
    """

    text: str
    token_id: int
    position: int
    logprob: float
    saliency: float | None
    threshold: float | None = None
    shares: dict[str, Share] = Field(default_factory=dict)
    rejected: tuple[RejectedCandidate, ...] = ()
    signals: dict[str, float] = Field(default_factory=dict)
    grounding: Probability | None = None


class Claim(Frozen):
    """One thing that an answer claims.

    Attributes:
        text: as it stands in the answer.
        kind: what it is about: an object that is there (or not), a number, a place, the answer to a question that yes
            or no answers, or a whole sentence that says more than that.
        span: its first character in the answer, and the one after its last.
        statement: the claim as a sentence of its own.
        grounding: calibrated probability that it is true; None where no calibration covers it.
        verified: the model's own probability that it is true, asked about without the answer before it; None where it
            was not asked, or said neither yes nor no.
        box: the part of the picture that speaks for it, as left, top, right and bottom from 0 to 1; None where that is
            not known.
        source: the picture or document it holds for; None where that is not known.
    """

    text: str
    kind: ClaimKind
    span: tuple[int, int]
    statement: str
    grounding: Probability | None = None
    verified: Probability | None = None
    box: tuple[Probability, Probability, Probability, Probability] | None = None
    source: str | None = None


class Usage(Frozen):
    """Tokens counted.

    Attributes:
        prompt_tokens: positions of the prompt, images included.
        completion_tokens: tokens of the answer.
        total_tokens: both.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GroundedAnswer(Frozen):
    """An answer and what it rests on.

    Attributes:
        text: the answer.
        tokens: its tokens; their pieces concatenate to ``text``.
        finish_reason: ``"stop"`` at the model's end token or a stop string, ``"length"`` at the limit.
        usage: token counts.
        model_id: which model wrote or scored it.
        claims: what it claims, in order.
        grounding: calibrated probability that all of its claims are true; None where no calibration covers the case.
        grounding_reason: why there is no grounding, in a sentence; None where there is one.
        calibrated: whether a calibration that fits stands behind ``grounding``; False where there is none, and with one
            that was let in by ``allow_mismatch``.
        domain: for each picture, how usual it is among those the calibration was fitted on (a p-value); empty where
            that is not known.
        unlocated: named texts without a share of their own, because it is not known where they stand in the prompt,
            and why; they count as text.
    """

    text: str
    tokens: tuple[TokenGrounding, ...]
    finish_reason: Literal["stop", "length"]
    usage: Usage
    model_id: str
    claims: tuple[Claim, ...] = ()
    grounding: Probability | None = None
    grounding_reason: str | None = None
    calibrated: bool = False
    domain: tuple[Probability, ...] = ()
    unlocated: dict[str, str] = Field(default_factory=dict)

    @property
    def saliency(self) -> float | None:
        """The mean of the tokens' saliency; None where no token has one. A raw score, not calibrated."""
        known = [token.saliency for token in self.tokens if token.saliency is not None]
        return sum(known) / len(known) if known else None

    @property
    def shares(self) -> dict[str, float]:
        """The mean of the tokens' shares."""
        tokens = [token.shares for token in self.tokens if token.shares]
        sources = dict.fromkeys(source for shares in tokens for source in shares)
        return {source: sum(shares.get(source, 0.0) for shares in tokens) / len(tokens) for source in sources}

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, fit for JSON."""
        return self.model_dump(mode="json")


class Step(Frozen):
    """One step of a stream.

    Attributes:
        token: the token that was just accepted, its grounding still open; None on the last step.
        answer: the whole answer, on the last step only.
    """

    token: TokenGrounding | None = None
    answer: GroundedAnswer | None = None
