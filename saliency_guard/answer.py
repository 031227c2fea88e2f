"""What comes out: an answer, and for every token what it rests on. Immutable, plain Python values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from saliency_guard.answer_view import AnswerView
from saliency_guard.claims.extract import ClaimKind, ExtractedClaim
from saliency_guard.claims.repair import RepairGuarantee, RepairKind, guarantee_for
from saliency_guard.claims.rewrite import rewritten, with_dependents
from saliency_guard.errors import ConfigError, UnjudgedError, shown
from saliency_guard.report.page.content import PageContent, RepairContent
from saliency_guard.settings import Frozen, Probability

Share = Annotated[float, Field(ge=0.0, le=1.001, allow_inf_nan=False)]
"""A part of a whole that was added up in the model's precision."""


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
        statement: the claim as a sentence of its own, without a negation.
        grounding: calibrated probability that it is true; None where no calibration covers it.
        verified: the model's own probability that it is true, asked about without the answer before it; None where it
            was not asked, or said neither yes nor no.
        box: where in its picture the object is, as left, top, right and bottom from 0 to 1: around the part that the
            token rests on that names it, and that speaks for the word under the logit lens; None for other claims, for
            what is said not to be there, and where it is not known.
        source: the picture or document it holds for; None where that is not known.
        negated: whether the answer claims that the statement is false.
        noun: what it is about; empty for yes, no and whole sentences.
        other: what a place is relative to; empty for places in the picture.
    """

    text: str
    kind: ClaimKind
    span: tuple[int, int]
    statement: str
    grounding: Probability | None = None
    verified: Probability | None = None
    box: tuple[Probability, Probability, Probability, Probability] | None = None
    source: str | None = None
    negated: bool = False
    noun: str = ""
    other: str = ""

    def extracted(self) -> ExtractedClaim:
        """The claim as it was taken out of its answer."""
        return ExtractedClaim(
            self.kind, *self.span, self.statement, negated=self.negated, noun=self.noun, other=self.other
        )


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
        repairs: what `repaired` can guarantee; not part of `to_dict`.
        view: what is shown beside it: pictures, maps of where its tokens look, alternatives; not part of `to_dict`. An
            answer that was judged comes with its pictures and one map, `LVLM.explain` adds all others.
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
    repairs: tuple[RepairGuarantee, ...] = Field(default=(), exclude=True, repr=False)
    view: AnswerView | None = Field(default=None, exclude=True, repr=False)

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

    def repaired(
        self, *, risk: float | None = None, kind: RepairKind = "any", threshold: float | None = None
    ) -> RepairedAnswer:
        """The answer without the claims that do not hold.

        Args:
            risk: the largest risk to guarantee: the threshold is the calibration's for it.
            kind: of the risk, see `RepairGuarantee`.
            threshold: instead of ``risk``, without a guarantee: claims with a grounding below it are left out.

        Raises:
            ConfigError: if not exactly one of ``risk`` and ``threshold`` is given, or the calibration guarantees no
                such risk.
            UnjudgedError: if a claim has no grounding to repair it by.
        """
        if (risk is None) == (threshold is None):
            msg = "say how to repair: risk=... for a guarantee, or threshold=..."
            raise ConfigError(msg)
        open_claim = next((claim for claim in self.claims if claim.grounding is None), None)
        if open_claim is not None or not self.claims:
            reason = self.grounding_reason or "a claim has no grounding"
            msg = f"the answer cannot be repaired: {reason}"
            raise UnjudgedError(msg)
        guarantee = guarantee_for(self.repairs, risk, kind) if risk is not None else None
        limit = guarantee.threshold if guarantee is not None else threshold
        low = {index for index, claim in enumerate(self.claims) if not reaches(claim.grounding, limit)}
        extracted = [claim.extracted() for claim in self.claims]
        dropped = with_dependents(extracted, low)
        return RepairedAnswer(
            text=rewritten(self.text, extracted, low),
            kept=tuple(claim for index, claim in enumerate(self.claims) if index not in dropped),
            dropped=tuple(claim for index, claim in enumerate(self.claims) if index in dropped),
            guarantee=guarantee,
            answer=self,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, fit for JSON."""
        return self.model_dump(mode="json")

    def to_html(self, *, threshold: float | None = None) -> str:
        """A page about the answer: one HTML file that needs no network.

        It shows the verdict, the claims, every token, and where in the pictures it looks as far as that is known:
        `LVLM.explain` adds single layers, attention and the logit lens.

        Args:
            threshold: on the grounding, to show beside it.

        Raises:
            ConfigError: if the threshold is no number from 0 to 1.
        """
        from saliency_guard.report.page.render import page  # noqa: PLC0415 - most answers are on no page

        if threshold is not None and not (isinstance(threshold, (int, float)) and 0.0 <= threshold <= 1.0):
            msg = f"threshold must be a number from 0 to 1, or None, not {shown(threshold)}"
            raise ConfigError(msg)
        return page(self.page_content(threshold))

    def _repr_html_(self) -> str:
        from saliency_guard.report.page.render import notebook_page  # noqa: PLC0415 - as above

        return notebook_page(self.page_content())

    def page_content(self, threshold: float | None = None, repaired: RepairContent | None = None) -> PageContent:
        """What a page shows of the answer."""
        return PageContent(self.to_dict(), self.view or AnswerView(), threshold, repaired=repaired)


class RepairedAnswer(Frozen):
    """An answer without the claims that do not hold.

    Attributes:
        text: what is left, in whole sentences; empty where nothing is.
        kept: the claims it still makes.
        dropped: those that were left out, with what made no sense without them.
        guarantee: what holds for ``text``; None where the threshold was the caller's own.
        answer: the answer that was repaired.
    """

    text: str
    kept: tuple[Claim, ...]
    dropped: tuple[Claim, ...]
    guarantee: RepairGuarantee | None
    answer: GroundedAnswer

    def to_html(self) -> str:
        """As `GroundedAnswer.to_html`, the repaired text beside the answer."""
        from saliency_guard.report.page.render import page  # noqa: PLC0415 - most answers are on no page

        threshold = self.guarantee.threshold if self.guarantee is not None else None
        return page(self.answer.page_content(threshold, self.page_content()))

    def page_content(self) -> RepairContent:
        """What a page shows of the repair."""
        if self.guarantee is None:
            how = "Claims below the threshold were left out; nothing is guaranteed."
        else:
            how = (
                f"Claims with a grounding below {self.guarantee.threshold:.2f} were left out: the risk "
                f"({self.guarantee.kind.replace('_', ' ')}) is at most {self.guarantee.risk}."
            )
        return RepairContent(self.text, tuple(claim.text.strip() for claim in self.dropped), how)


def reaches(grounding: float | None, threshold: float | None) -> bool:
    """Whether a grounding is good enough; NaN never is."""
    return grounding is not None and threshold is not None and grounding >= threshold


class Step(Frozen):
    """One step of a stream.

    Attributes:
        token: the token that was just accepted, its grounding still open; None on the last step.
        answer: the whole answer, on the last step only.
    """

    token: TokenGrounding | None = None
    answer: GroundedAnswer | None = None
