"""The one place where answers are judged: taken apart into claims, verified, and given the calibrated probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from saliency_guard.answer import Claim, TokenGrounding
from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.claim_features import claim_tokens
from saliency_guard.calibration.features import (
    RECOGNISED,
    VERIFICATION,
    Floats,
    features,
    recognised_rows,
    verification_rows,
)
from saliency_guard.calibration.records import claim_rows
from saliency_guard.calibration.results import Judgement
from saliency_guard.chat.messages import Conversation
from saliency_guard.chat.pictures import Box
from saliency_guard.chat.template import PromptReader
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.claims.repair import RepairGuarantee
from saliency_guard.claims.sentences import sentence_claims, sentence_of
from saliency_guard.domain_features import domain_features, look_at_pictures
from saliency_guard.models.session import Session
from saliency_guard.saliency.boxes import box_of
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.scenes.claims import Extractor, extractor_of
from saliency_guard.signals.combined_map import box_part
from saliency_guard.signals.trace import AnswerTrace
from saliency_guard.signals.verification import VerifyConfig
from saliency_guard.verifier import Verified, Verifier

NO_CALIBRATION = "there is no calibration for this model: make one with `saliency-guard calibrate`"
OTHER_SALIENCY = "the answer was not scored with the saliency settings that the calibration was fitted with"
BOTH = "the prompt has pictures and text documents, and calibrations are fitted on prompts with one of the two alone"
NO_PICTURE = "the prompt shows no picture"
OTHER_VERIFICATION = "the claims were not verified in the way that the calibration for text documents was fitted with"
EMPTY = "the answer is empty"
STRUCTURED = "the answer is JSON or a tool call, and the calibration was fitted on sentences"


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer is judged by.

    Attributes:
        kind: a trace of how it looks at ``"pictures"``, the verification of its claims against ``"documents"``, or
            nothing, as None.
        reason: why there will be no grounding, where that is known before.
        verifies: whether its claims are verified as the calibrator has it.
    """

    kind: Literal["pictures", "documents"] | None = None
    reason: str | None = None
    verifies: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class JudgedClaims:
    """An answer's claims, with their groundings.

    Attributes:
        claims: in order.
        tokens: for each claim the indices of the tokens that decide it.
        grounding: as of `GroundedAnswer`.
        reason: why there is none.
        domain: as of `GroundedAnswer`.
        repairs: as of `GroundedAnswer`: those that were tested on answers like it.
    """

    claims: tuple[Claim, ...]
    tokens: tuple[tuple[int, ...], ...] = ()
    grounding: float | None = None
    reason: str | None = None
    domain: tuple[float, ...] = ()
    repairs: tuple[RepairGuarantee, ...] = ()

    def with_groundings(self, tokens: Sequence[TokenGrounding]) -> list[TokenGrounding]:
        """The tokens of the answer; those that decide a claim have its grounding (the least of several)."""
        known: dict[int, float] = {}
        for claim, indices in zip(self.claims, self.tokens, strict=True):
            if claim.grounding is None:
                continue
            for index in indices:
                known[index] = min(claim.grounding, known.get(index, 1.0))
        return [token.model_copy(update={"grounding": known.get(index)}) for index, token in enumerate(tokens)]


@dataclass(frozen=True, slots=True, eq=False)
class ClaimJudge:
    """Takes answers of one model apart and judges their claims.

    Attributes:
        reader: of the model's prompts.
        calibrator: what it says; None leaves groundings open.
        verify: how claims are verified; None is as the calibrator has it.
        extractor: what takes answers apart; None is as the calibrator has it.
    """

    reader: PromptReader
    calibrator: Calibrator | None
    verify: VerifyConfig | None = None
    extractor: Extractor | None = None

    def extract(self, text: str, conversation: Conversation | None) -> list[ExtractedClaim]:
        """The claims of an answer; whole sentences where it is about text documents alone."""
        if conversation is not None and conversation.documents and not conversation.images:
            return sentence_claims(text, conversation.question)
        name = self.extractor or (self.calibrator.extractor if self.calibrator is not None else None)
        extractor = extractor_of(name)
        question = conversation.question if conversation is not None else ""
        return [claim for claim in extractor(text, question) if claim.stop > claim.start]

    def basis(
        self, tokens: int, session: Session, conversation: Conversation | None, saliency: SaliencyConfig | None
    ) -> Basis:
        """The part of the calibration that applies to an answer, or the reason why none does.

        Args:
            tokens: how many it has.
            session: the prompt.
            conversation: its messages; None where they are not known.
            saliency: how the answer is scored.
        """
        calibrator = self.calibrator
        if not tokens or calibrator is None:
            return Basis(reason=NO_CALIBRATION if tokens else EMPTY, verifies=False)
        if saliency != calibrator.fingerprint.saliency:
            return Basis(reason=OTHER_SALIENCY, verifies=False)
        documents = conversation.documents if conversation is not None else ()
        if session.layout.visual_sources:
            return Basis(reason=BOTH) if documents else Basis("pictures")
        if not documents:
            return Basis(reason=NO_PICTURE, verifies=False)
        fitted = calibrator.documents
        if fitted is None or not fitted.kinds:
            return Basis("documents", verifies=False)  # It will say why there is no number.
        if self.verify is not None and self.verify != fitted.verify:
            return Basis(reason=OTHER_VERIFICATION)
        return Basis("documents")

    def look(self, prompts: Sequence[tuple[Session, Conversation | None, Basis]]) -> None:
        """Look at the pictures of several prompts that are going to be judged, side by side where that goes.

        Args:
            prompts: each read with the states at its pictures, its messages, and what its answer is judged by.
        """
        chosen = [
            (session, conversation)
            for session, conversation, basis in prompts
            if basis.kind == "pictures" and self._looks_at(session)
        ]
        look_at_pictures(self.reader, chosen)

    def _looks_at(self, session: Session) -> bool:
        """Whether the domain gate is run: in vain for a number of pictures that the calibration does not cover."""
        calibrator = self.calibrator
        if calibrator is None or len(session.layout.visual_sources) not in calibrator.pictures:
            return False
        return calibrator.domain is not None or RECOGNISED in calibrator.groups

    def judge(
        self,
        pieces: Sequence[str],
        session: Session,
        conversation: Conversation | None,
        basis: Basis,
        *,
        trace: AnswerTrace | None = None,
        combined: Tensor | None = None,
    ) -> JudgedClaims:
        """An answer's claims, verified and judged as its basis says.

        Args:
            pieces: every token's piece of the text.
            session: the prompt, read; with the states at its pictures where there is a trace.
            conversation: the prompt's messages; None where they are not known: then nothing is verified.
            basis: of the answer, see `basis`.
            trace: of the answer, under the calibrator's saliency; there has to be one where the basis is pictures.
            combined: ``[N, I]`` `combined_map` of all its tokens, where there is a trace.
        """
        text = "".join(pieces)
        extracted = self.extract(text, conversation)
        verified = self._verified(extracted, session, conversation, self._config(basis), text=text)
        claims = [
            _claim(text, claim, result, session.layout.visual_sources)
            for claim, result in zip(extracted, verified, strict=True)
        ]
        tokens = tuple(claim_tokens(pieces, claim) for claim in extracted)
        boxes: list[Box | None] = [None] * len(claims)
        repairs: tuple[RepairGuarantee, ...] = ()
        if self.calibrator is None or basis.kind is None:
            return JudgedClaims(tuple(claims), tokens, reason=basis.reason)
        if basis.kind == "documents":
            judgement = self.calibrator.judge_documents(
                [claim.kind for claim in claims],
                [claim.verified for claim in claims],
                lengths=conversation.document_lengths if conversation is not None else (),
            )
        else:
            assert trace is not None and combined is not None  # noqa: S101, PT018 - says the basis
            domain = None
            if self._looks_at(session):
                domain = domain_features(self.reader, session, conversation).double().numpy()
            judgement = _judgement(self.calibrator, claims, tokens, trace, domain)
            boxes, repairs = self._boxes(claims, tokens, trace, combined, conversation), self.calibrator.repairs
        judged = [
            claim.model_copy(update={"grounding": value, "box": box})
            for claim, value, box in zip(claims, judgement.claims, boxes, strict=True)
        ]
        return JudgedClaims(tuple(judged), tokens, judgement.answer, judgement.reason, judgement.domain, repairs)

    def _config(self, basis: Basis) -> VerifyConfig | None:
        """How claims are verified: the caller's settings, else those of the calibration."""
        if self.verify is not None or self.calibrator is None or not basis.verifies:
            return self.verify
        documents = self.calibrator.documents
        return documents.verify if basis.kind == "documents" and documents is not None else self.calibrator.verify

    def _boxes(
        self,
        claims: Sequence[Claim],
        tokens: Sequence[Sequence[int]],
        trace: AnswerTrace,
        combined: Tensor,
        conversation: Conversation | None,
    ) -> list[Box | None]:
        """Where in its picture an object is by its token's `combined_map`; None for claims about no place in one."""
        boxes: list[Box | None] = []
        owners = trace.layout.picture_owners
        maps, part = combined[[indices[-1] for indices in tokens]], box_part(trace)
        for claim, values in zip(claims, maps, strict=True):
            columns = [column for column, owner in enumerate(owners) if owner == claim.source]
            patches = None
            if claim.kind == "object" and not claim.negated and columns and conversation is not None:
                image = conversation.images[int(owners[columns[0]].removeprefix("image_"))]
                patches = self.reader.patch_boxes(image, len(columns))
            boxes.append(box_of(values[columns], patches, part=part) if patches is not None else None)
        return boxes

    def verified(
        self, claims: Sequence[ExtractedClaim], session: Session, conversation: Conversation | None
    ) -> list[float | None]:
        """The model's own probability that each claim holds; None where it was not asked, or did not say.

        Args:
            claims: of one answer.
            session: the prompt, read.
            conversation: the prompt's messages.
        """
        results = self._verified(claims, session, conversation, self.verify)
        return [holds(claim, result) for claim, result in zip(claims, results, strict=True)]

    def _verified(
        self,
        claims: Sequence[ExtractedClaim],
        session: Session,
        conversation: Conversation | None,
        config: VerifyConfig | None,
        *,
        text: str = "",
    ) -> list[Verified]:
        if config is None or conversation is None or not claims:
            return [Verified(None)] * len(claims)
        verifier = Verifier(self.reader, config)
        if conversation.documents:
            alone = not conversation.images
            sentences = [claim.statement if alone else sentence_of(text, claim) for claim in claims]
            pairs = [(claim.statement, claim.picture) for claim in claims]
            return verifier.verify(conversation, session, pairs, sentences)
        # Claims that are put the same way are asked about once.
        statements = list(dict.fromkeys((claim.statement, claim.picture) for claim in claims))
        results = verifier.verify(conversation, session, statements)
        known = dict(zip(statements, results, strict=True))
        return [known[claim.statement, claim.picture] for claim in claims]


def _judgement(
    calibrator: Calibrator,
    claims: Sequence[Claim],
    tokens: Sequence[tuple[int, ...]],
    trace: AnswerTrace,
    domain: Floats | None,
) -> Judgement:
    pictures = len(trace.layout.visual_sources)
    groups = {name: claim_rows(rows, tokens) for name, rows in features(trace, calibrator.groups).items()}
    groups[VERIFICATION] = verification_rows([claim.verified for claim in claims], pictures)
    groups[RECOGNISED] = recognised_rows(domain if domain is not None else np.empty((0, 0)), len(claims))
    rows: Floats = np.concatenate([groups[name] for name in calibrator.groups], axis=1)
    kinds = [claim.kind for claim in claims]
    return calibrator.judge(kinds, rows, pictures=pictures, domain=domain)


def holds(claim: ExtractedClaim, verified: Verified) -> float | None:
    """The probability that a claim holds, from the one that its statement is true."""
    probability = verified.probability
    return 1.0 - probability if probability is not None and claim.negated else probability


def _claim(text: str, claim: ExtractedClaim, verified: Verified, pictures: frozenset[str]) -> Claim:
    named = claim.picture if claim.picture is not None else verified.picture
    source = f"image_{named}" if named is not None else next(iter(pictures)) if len(pictures) == 1 else None
    if verified.document is not None or source not in pictures:
        source = verified.document
    return Claim(
        text=text[claim.start : claim.stop],
        kind=claim.kind,
        span=(claim.start, claim.stop),
        statement=claim.statement,
        verified=holds(claim, verified),
        source=source,
        negated=claim.negated,
        noun=claim.noun,
        other=claim.other,
    )
