"""Retrieved documents in a prompt: what part of an answer rests on each, and which document each token rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from saliency_guard.adapters.scorer import fitted_saliency
from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.lvlm import LVLM

Part = Mapping[str, Any]

_GROUNDED = 0.5
_BLANK = Image.new("RGB", (224, 224), "gray")
"""A picture that shows nothing: what a document's picture is compared with."""


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
        return any(map(_has_picture, self.parts))

    def alone(self) -> list[list[dict[str, Any]]]:
        """Messages with each document alone.

        A text stands beside a blank picture: a model may refuse messages without any.
        """
        return [
            self._with_question(document if _has_picture(document) else [*self._blank(), *document])
            for document in self.parts
        ]

    def shares(self, scored: GroundedAnswer) -> list[float]:
        """What part of the saliency of the tokens that count lies on each document; raw, not calibrated.

        Args:
            scored: answer to `messages`.
        """
        counted = TokenFilter().counted([token.text for token in scored.tokens])
        pictures = 0
        shares: list[float] = []
        for document in self.parts:
            sources = dict.fromkeys(part["source"] for part in document if part["type"] == "text")
            for part in document:
                if part["type"] == "image":
                    sources[f"image_{pictures}"] = None
                    pictures += 1
            of_tokens = [scored.tokens[index].shares.get(source, 0.0) for index in counted for source in sources]
            shares.append(sum(of_tokens) / max(1, len(counted)))
        return shares

    def gains(self, lvlm: LVLM, scored: GroundedAnswer) -> list[list[float | None]]:
        """For every token and document, in nats, how much likelier the document alone makes it.

        Against no document, or a blank picture. None where the document alone does not ground the token, as far as
        that is known: of pictures, by a calibrated model; a picture that its calibration could not judge grounds none.

        Args:
            lvlm: scores the answer with every document alone, side by side.
            scored: an answer.
        """
        pairs = [(messages, scored.text) for messages in [self._with_question(self._blank()), *self.alone()]]
        without, *with_document = lvlm.score_batch(pairs, saliency=fitted_saliency(lvlm))
        return [
            [
                answer.tokens[index].logprob - without.tokens[index].logprob
                if _grounds(answer, index, document, is_calibrated=lvlm.calibrator is not None)
                else None
                for answer, document in zip(with_document, self.parts, strict=True)
            ]
            for index in range(len(scored.tokens))
        ]

    def _blank(self) -> list[Part]:
        return [{"type": "image", "image": _BLANK}] if self.has_picture else []

    def _with_question(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.question}]}]


def rests_on(gains: Sequence[Sequence[float | None]], scored: GroundedAnswer, least: float) -> list[int | None]:
    """For every token that counts, the document that makes it likelier by the most, and at least by ``least`` nats."""
    counted = TokenFilter().counted([token.text for token in scored.tokens])
    return [_largest(row, least) if index in counted else None for index, row in enumerate(gains)]


def _largest(gains: Sequence[float | None], least: float) -> int | None:
    known = {number: gain for number, gain in enumerate(gains) if gain is not None and gain >= least}
    return max(known, key=lambda number: known[number], default=None)


def _has_picture(parts: Sequence[Part]) -> bool:
    return any(part["type"] == "image" for part in parts)


def _grounds(answer: GroundedAnswer, index: int, parts: Sequence[Part], *, is_calibrated: bool) -> bool:
    """Whether a document alone may ground a token: of pictures, none that the calibration could not judge."""
    if not _has_picture(parts) or not is_calibrated:
        return True
    grounding = answer.tokens[index].grounding
    return answer.grounding is not None and (grounding is None or grounding >= _GROUNDED)
