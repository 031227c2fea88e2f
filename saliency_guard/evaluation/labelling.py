"""Answers with the truth of what they claim: written or given, looked at, verified and labelled."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from saliency_guard.answer import GroundedAnswer
from saliency_guard.answer_builder import traced_answer, unjudged_answer, unscored_tokens
from saliency_guard.calibration.claim_features import claim_tokens
from saliency_guard.calibration.features import GROUPS, SUMMARIES, features
from saliency_guard.calibration.records import GIVEN, GroundingRecord, LabelledClaim, claim_rows, encoded
from saliency_guard.chat import detokenize
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.chat.images import load_image
from saliency_guard.chat.messages import Conversation
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.claim_judge import EMPTY, NO_CALIBRATION, ClaimJudge
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.evaluation.known_pictures import KnownPictures
from saliency_guard.evaluation.questions import Question, messages_about
from saliency_guard.evaluation.world import batches, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.scenes.claims import Extractor
from saliency_guard.signals.trace import trace_answers
from saliency_guard.signals.verification import VerifyConfig

BATCH = 48
MAX_NEW_TOKENS = 96
_VECTORS = tuple(name for name in GROUPS if name != "signals")


@dataclass(frozen=True, slots=True)
class Looking:
    """How answers are looked at.

    Attributes:
        saliency: the target layers of the trace.
        verify: how claims are verified; None leaves them unverified.
        vectors: whether the records get the probes' vectors beside the summary signals.
    """

    saliency: SaliencyConfig = SaliencyConfig()
    verify: VerifyConfig | None = VerifyConfig()
    vectors: bool = True


@dataclass(frozen=True, slots=True)
class Labels:
    """What a record has beside the answer.

    Attributes:
        picture: name of the pictures.
        question: what was asked.
        draw: number of the answer.
        truths: of each claim; None where that is not known.
        grounded: whether all of the answer is true; None where that is not known.
        redrawn: whether the pictures were made to be unlike the usual ones.
    """

    picture: str
    question: str
    draw: int
    truths: tuple[bool | None, ...]
    grounded: bool | None
    redrawn: bool = False


def write_records(
    lvlm: LVLM,
    questions: Iterable[Question],
    *,
    draws: int = 1,
    temperature: float = 0.0,
    retry_temperature: float = 0.7,
    max_new_tokens: int = MAX_NEW_TOKENS,
    given: bool = False,
    looking: Looking = Looking(),
    done: Collection[tuple[str, str, int]] = frozenset(),
    on_answer: Callable[[], None] = lambda: None,
) -> Iterator[GroundingRecord]:
    """Ask, and label the answers.

    Args:
        lvlm: what answers.
        questions: those of one batch have equally many pictures where the model cannot pad.
        draws: answers to each.
        temperature: of the first; 0 is greedy.
        retry_temperature: the others are drawn at least at this, as `RetryPlan` has it.
        max_new_tokens: of each answer.
        given: look at the answers from elsewhere, too; their draw is -1.
        looking: how answers are looked at.
        done: picture, question and draw of answers that are there already: they are not looked at again.
        on_answer: called after each, those that were there included.
    """
    known = KnownPictures(lvlm)
    for batch in batches(questions, BATCH):
        images = [[_opened(image) for image in question.images] for question in batch]
        for draw in range(draws):
            if all((question.picture, question.question, draw) in done for question in batch):
                for _ in batch:
                    on_answer()
                continue
            written = _written(
                lvlm,
                batch,
                images,
                max_new_tokens=max_new_tokens,
                temperature=max(temperature, retry_temperature) if draw else temperature,
                seed=random.Random(f"{batch[0].picture} {draw}").randrange(2**31),
            )
            for question, shown, ids in zip(batch, images, written, strict=True):
                if (question.picture, question.question, draw) not in done:
                    text = EncodedText(ids, detokenize.pieces(lvlm.tokenizer, ids))
                    yield label(lvlm, question, shown, text, draw=draw, looking=looking, known=known)
                on_answer()
        for question, shown in zip(batch, images, strict=True) if given else ():
            if question.given is not None and (question.picture, question.question, GIVEN) not in done:
                text = detokenize.encode(lvlm.tokenizer, question.given)
                yield label(lvlm, question, shown, text, draw=GIVEN, looking=looking, known=known)
            on_answer()


def _written(
    lvlm: LVLM,
    batch: Sequence[Question],
    images: Sequence[Sequence[Image.Image]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[list[int]]:
    """Token ids of an answer to each question."""
    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    if not any(question.documents for question in batch):
        return write_answers(lvlm, images, [question.question for question in batch], **how)
    prompts = [_prepared(lvlm, question, shown) for question, shown in zip(batch, images, strict=True)]
    answers = lvlm.generate_batch(prompts, saliency=None, **how)
    return [[token.token_id for token in answer.tokens] for answer in answers]


def _prepared(lvlm: LVLM, question: Question, images: Sequence[Image.Image]) -> PreparedPrompt:
    return prepared_about(lvlm, images, question.documents, question.question)


def prepared_about(lvlm: LVLM, images: Sequence[Any], documents: Sequence[str], question: str) -> PreparedPrompt:
    """The prompt of a question about pictures, or about text documents; arguments as for `messages_about`."""
    messages = messages_about(images, documents, question)
    return lvlm.reader.without_pictures().prepare(messages) if documents else lvlm.prepare(messages)


def label(
    lvlm: LVLM,
    question: Question,
    images: Sequence[Image.Image],
    answer: EncodedText,
    *,
    draw: int = 0,
    looking: Looking = Looking(),
    known: KnownPictures | None = None,
) -> GroundingRecord:
    """Look at one answer and check what it claims; arguments as for `write_records` and `look`."""
    prepared = _prepared(lvlm, question, images)
    claims = claims_of(lvlm, answer, prepared, question.extractor)
    truths = tuple(question.check(claim) for claim in claims)
    labels = Labels(question.picture, question.question, draw, truths, all_true(truths), question.redrawn)
    return look(lvlm, prepared, answer, claims, labels, looking=looking, known=known)


def claims_of(lvlm: LVLM, answer: EncodedText, prepared: PreparedPrompt, extractor: Extractor) -> list[ExtractedClaim]:
    """The claims of an answer."""
    judge = ClaimJudge(lvlm.reader, None, extractor=extractor)
    return judge.extract("".join(answer.pieces), prepared.conversation)


def look(
    lvlm: LVLM,
    prepared: PreparedPrompt,
    answer: EncodedText,
    claims: Sequence[ExtractedClaim],
    labels: Labels,
    *,
    looking: Looking = Looking(),
    known: KnownPictures | None = None,
) -> GroundingRecord:
    """The record of an answer: its tokens' signals, its claims with their verification and vectors, and the labels.

    Args:
        lvlm: the model whose answer it is, or is to be.
        prepared: the prompt.
        answer: the answer.
        claims: what it claims.
        labels: their truth.
        looking: how the answer is looked at.
        known: pictures that were read before.
    """
    conversation = prepared.conversation
    assert conversation is not None  # noqa: S101 - the prompt was made of messages
    if not answer.ids:
        empty = unjudged_answer((), "stop", prepared.length, lvlm.model_id, reason=EMPTY)
        return _record(empty, labels, conversation)
    pictured = bool(conversation.images)
    read = (known or KnownPictures(lvlm)).read(prepared) if pictured else None
    session = read.session if read is not None else Session(lvlm.model, prepared.inputs, layout=prepared.layout)
    judge = ClaimJudge(lvlm.reader, None, looking.verify)
    verified = judge.verified(claims, session, conversation)
    tokens = [claim_tokens(answer.pieces, claim) for claim in claims]
    labelled = tuple(
        LabelledClaim(
            kind=claim.kind, start=claim.start, stop=claim.stop, tokens=indices, verified=probability, grounded=truth
        )
        for claim, indices, probability, truth in zip(claims, tokens, verified, labels.truths, strict=True)
    )
    if read is None:
        unjudged = unjudged_answer(
            unscored_tokens(answer), "stop", prepared.length, lvlm.model_id, reason=NO_CALIBRATION
        )
        return _record(unjudged, labels, conversation, claims=labelled)
    (trace,) = trace_answers([session], [answer.ids], looking.saliency, read=read.blank)
    traced = traced_answer(trace, answer, SUMMARIES, lvlm.model_id)
    vectors = {}
    if looking.vectors and claims:
        vectors = {name: encoded(claim_rows(rows, tokens)) for name, rows in features(trace, _VECTORS).items()}
    return _record(traced, labels, conversation, claims=labelled, vectors=vectors, domain=read.domain)


def _record(
    answer: GroundedAnswer,
    labels: Labels,
    conversation: Conversation,
    *,
    claims: tuple[LabelledClaim, ...] = (),
    vectors: Mapping[str, str] | None = None,
    domain: torch.Tensor | None = None,
) -> GroundingRecord:
    rows = domain.double().numpy() if domain is not None else ()
    return GroundingRecord(
        picture=labels.picture,
        pictures=len(conversation.images),
        document_lengths=conversation.document_lengths,
        question=labels.question,
        draw=labels.draw,
        answer=answer,
        claims=claims,
        grounded=labels.grounded,
        vectors=dict(vectors or {}),
        domain=tuple(encoded(row) for row in rows),
        redrawn=labels.redrawn,
    )


def all_true(truths: Sequence[bool | None]) -> bool | None:
    """Whether all of an answer is true: no if a claim is wrong, or there is none; None where one is not known."""
    if not truths or False in truths:
        return False
    return None if None in truths else True


def _opened(image: Image.Image | Path) -> Image.Image:
    return image if isinstance(image, Image.Image) else load_image(image)
