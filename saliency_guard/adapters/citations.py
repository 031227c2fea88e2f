"""Retrieved documents in a prompt: what part of an answer lies on each, and which document each claim rests on."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from saliency_guard.adapters.scorer import LocalScorer
from saliency_guard.answer import Claim, GroundedAnswer, reaches
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.guard.decision import low_claim
from saliency_guard.guard.fields import JudgedText
from saliency_guard.guard.outcome import Attempt, GuardOutcome
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.signals.verification import VerifyConfig

Part = Mapping[str, Any]

_HOLDS = 0.5
"""A claim rests on a text where the model says so rather than not; of pictures the policy's threshold counts."""
_BLANK = Image.new("RGB", (224, 224), "gray")
"""A picture that shows nothing, beside a text alone: a model may refuse messages without any picture."""
_MAY_BE_OF_A_TEXT = "the answer may rest on a text, and no calibration covers claims about texts"
_OF_THE_QUESTION = ("yes_no", "statement")
"""Kinds of claims that may be about anything that was asked, and so about a text as well as about a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedAnswer:
    """An answer and what each of its claims rests on.

    Attributes:
        answer: scored. Its claims have a grounding where a picture speaks for them or nothing else could, and its own
            grounding is None where a text may stand behind it.
        documents: for each claim the index of the document that it rests on; None where there is none, or not one only
            ("there is no dog").
        shares: what part of the saliency lies on each document; raw, not calibrated.
    """

    answer: GroundedAnswer
    documents: tuple[int | None, ...]
    shares: tuple[float, ...]

    def cited(self, outcome: GuardOutcome) -> list[tuple[Claim, int]]:
        """The claims in what is given out that rest on a document, each with the document's index.

        Args:
            outcome: what a policy decided; of a repaired answer, what is left counts.
        """
        if outcome.chosen is None:
            return []
        kept = None if outcome.repaired is None else {claim.span for claim in outcome.repaired.kept}
        return [
            (claim, number)
            for claim, number in zip(self.answer.claims, self.documents, strict=True)
            if number is not None and (kept is None or claim.span in kept)
        ]

    def attempt(self, policy: GuardPolicy) -> Attempt:
        """The answer as an attempt, which is refused for each of its claims, too.

        Args:
            policy: decides.
        """
        attempt = policy.judge(self.answer)
        low = low_claim(self.answer, policy.min_grounding) if policy.min_grounding is not None else None
        return attempt if low is None or not attempt.accepted else attempt.model_copy(update={"refused": low})


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """Documents and a question about them.

    Attributes:
        parts: of every document, as in `LVLM.generate`'s messages; its texts name `text_source` as their source.
        question: about all of them.
    """

    parts: Sequence[Sequence[Part]]
    question: str

    @staticmethod
    def text_source(number: int) -> str:
        """The source that the texts of a document name; documents count from 0, sources from 1."""
        return f"document_{number + 1}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """One message with all documents, and the question."""
        return self._with_question([part for document in self.parts for part in document])

    @property
    def has_picture(self) -> bool:
        """Whether one of them has a picture."""
        return any(map(_pictures, self.parts))

    @property
    def has_text(self) -> bool:
        """Whether one of them has a text."""
        return any(map(_texts, self.parts))

    def judging(
        self,
        scorer: LocalScorer,
        text: str | JudgedText,
        policy: GuardPolicy | None,
        prompt: PreparedPrompt | None = None,
    ) -> Generator[JudgedAnswer | None, None, None]:
        """Judge an answer: yields None after each call of the model, where the caller may stop, and the result last.

        A claim is judged against all pictures together, without the texts, as calibrations are fitted, and each is
        looked at for it: `Claim.source` is the one that speaks most for it. Beside texts a picture may speak for a
        claim and never against it, because the text may say it; a claim that no picture speaks for is put to the model
        with each text alone, and has no grounding.

        Args:
            scorer: judges.
            text: the answer, perhaps with fields.
            policy: whose calibrator and signals are used, and whose threshold a claim has to reach.
            prompt: `messages`, prepared; None prepares them.

        Raises:
            ContextLengthError: if the documents do not fit into one prompt: what single documents say of an answer is
                not calibrated for all of them together.
            InputError: of the kinds that `LVLM.score` names.
        """
        is_calibrated = scorer.lvlm_for(policy).calibrator is not None
        verify = None if is_calibrated else VerifyConfig()
        threshold = _HOLDS if policy is None or policy.min_grounding is None else policy.min_grounding
        answer = scorer.score(self.messages if prompt is None else prompt, text, policy, verify=verify)
        yield None
        shares = tuple(self.shares(answer))
        if not self.has_text:
            yield JudgedAnswer(answer, self._supporting(answer.claims, threshold, is_calibrated=is_calibrated), shares)
            return
        by_pictures = answer
        if self.has_picture:
            pictures = self._with_question([part for document in self.parts for part in _pictures(document)])
            by_pictures = scorer.score(pictures, text, policy, verify=verify)
            yield None
        claims = [_beside_texts(claim, threshold) for claim in by_pictures.claims]
        rest_on = list(self._supporting(claims, threshold, is_calibrated=is_calibrated))
        if any(claim.grounding is None for claim in claims):
            for number, alone in self._texts_alone():
                by_text = scorer.score(alone, text, policy, verify=VerifyConfig())
                yield None
                claims = [
                    _more_likely(claim, other, self.text_source(number))
                    for claim, other in zip(claims, by_text.claims, strict=True)
                ]
        for index, claim in enumerate(claims):
            if claim.grounding is None and claim.source is not None and not claim.negated:
                rest_on[index] = self._document(claim.source)
        is_whole = all(claim.grounding is not None for claim in claims)
        accepted = is_whole and reaches(by_pictures.grounding, threshold)
        update = {
            "claims": tuple(claims),
            "grounding": by_pictures.grounding if accepted else None,
            "calibrated": by_pictures.calibrated and accepted,
            "grounding_reason": None if accepted else _reason(by_pictures, claims),
            "domain": by_pictures.domain,
        }
        yield JudgedAnswer(answer.model_copy(update=update), tuple(rest_on), shares)

    def shares(self, scored: GroundedAnswer) -> list[float]:
        """What part of the saliency of the tokens that count lies on each document; raw, not calibrated.

        Args:
            scored: answer to `messages`.
        """
        counted = TokenFilter().counted([token.text for token in scored.tokens])
        shares: list[float] = []
        for sources in self._sources():
            of_tokens = [scored.tokens[index].shares.get(source, 0.0) for index in counted for source in sources]
            shares.append(sum(of_tokens) / max(1, len(counted)))
        return shares

    def _sources(self) -> list[list[str]]:
        """The names of each document's sources in `messages`."""
        pictures = 0
        names: list[list[str]] = []
        for document in self.parts:
            sources = dict.fromkeys(part["source"] for part in document if part["type"] == "text")
            for _ in _pictures(document):
                sources[f"image_{pictures}"] = None
                pictures += 1
            names.append(list(sources))
        return names

    def _document(self, source: str) -> int | None:
        return next((number for number, names in enumerate(self._sources()) if source in names), None)

    def _supporting(self, claims: Sequence[Claim], threshold: float, *, is_calibrated: bool) -> tuple[int | None, ...]:
        """For each claim the document whose picture speaks for it; without a calibration, by the model's own word."""
        return tuple(
            self._document(claim.source)
            if claim.source is not None
            and not claim.negated
            and reaches(claim.grounding if is_calibrated else claim.verified, threshold)
            else None
            for claim in claims
        )

    def _texts_alone(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """Messages with the texts of each document alone."""
        blank: list[Part] = [{"type": "image", "image": _BLANK}] if self.has_picture else []
        texts = [(number, _texts(document)) for number, document in enumerate(self.parts)]
        return [(number, self._with_question([*blank, *parts])) for number, parts in texts if parts]

    def _with_question(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.question}]}]


def unique_names(names: Sequence[str]) -> list[str]:
    """A name for each document: where names repeat, the later ones get numbers."""
    unique: list[str] = []
    for name in names:
        count, free = 1, name
        while free in unique:
            count += 1
            free = f"{name}#{count}"
        unique.append(free)
    return unique


def _beside_texts(claim: Claim, threshold: float) -> Claim:
    """A claim judged by pictures, where a text may stand behind it: then its number may only speak for it."""
    if claim.kind not in _OF_THE_QUESTION and reaches(claim.grounding, threshold):
        return claim
    return claim.model_copy(update={"grounding": None, "verified": None, "source": None})


def _more_likely(claim: Claim, by_text: Claim, source: str) -> Claim:
    """A claim that no picture speaks for, with what the model says of it beside one more text."""
    if claim.grounding is not None or by_text.verified is None or by_text.verified < (claim.verified or 0.0):
        return claim
    speaks = source if by_text.verified >= _HOLDS else None
    return claim.model_copy(update={"verified": by_text.verified, "source": speaks})


def _reason(by_pictures: GroundedAnswer, claims: Sequence[Claim]) -> str:
    """Why an answer beside texts has no grounding."""
    return _MAY_BE_OF_A_TEXT if claims else by_pictures.grounding_reason or _MAY_BE_OF_A_TEXT


def _pictures(document: Sequence[Part]) -> list[Part]:
    return [part for part in document if part["type"] == "image"]


def _texts(document: Sequence[Part]) -> list[Part]:
    return [part for part in document if part["type"] == "text"]
