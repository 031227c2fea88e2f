"""Retrieved documents in a prompt: what part of an answer rests on each, and which one each word rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.lvlm import LVLM

Part = Mapping[str, Any]

_GROUNDED = 0.5
_NOTHING = Image.new("RGB", (224, 224), "gray")
"""What a picture is compared with: one that shows nothing."""


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
        return self._asked([part for own in self.parts for part in own])

    @property
    def has_picture(self) -> bool:
        """Whether one of them has a picture."""
        return any(map(_pictured, self.parts))

    def alone(self) -> list[list[dict[str, Any]]]:
        """Messages with each document alone.

        A text is looked at beside a picture of nothing: a model may refuse to be asked without any.
        """
        return [self._asked(own if _pictured(own) else [*self._nothing(), *own]) for own in self.parts]

    def shares(self, scored: GroundedAnswer) -> list[float]:
        """What part of the saliency of the tokens that count lies on each document; raw, not calibrated.

        Args:
            scored: answer to `messages`.
        """
        counted = TokenFilter().counted([token.text for token in scored.tokens])
        pictures = 0
        found: list[float] = []
        for own in self.parts:
            sources = [part["source"] for part in own if part["type"] == "text"]
            for part in own:
                if part["type"] == "image":
                    sources.append(f"image_{pictures}")
                    pictures += 1
            of_tokens = [scored.tokens[index].shares.get(one, 0.0) for index in counted for one in set(sources)]
            found.append(sum(of_tokens) / max(1, len(counted)))
        return found

    def gains(self, lvlm: LVLM, scored: GroundedAnswer) -> list[list[float | None]]:
        """For every token and document, in nats, how much likelier the document alone makes it.

        Against no document, or a picture that shows nothing. None where the document alone does not ground the token,
        as far as that is known: of pictures, by a calibrated model.

        Args:
            lvlm: looks at every document alone, side by side.
            scored: an answer.
        """
        asked = [(messages, scored.text) for messages in [self._asked(self._nothing()), *self.alone()]]
        without, *found = lvlm.score_batch(asked)
        return [
            [
                one.tokens[index].logprob - without.tokens[index].logprob
                if _grounds(one.tokens[index].grounding, own)
                else None
                for one, own in zip(found, self.parts, strict=True)
            ]
            for index in range(len(scored.tokens))
        ]

    def _nothing(self) -> list[Part]:
        return [{"type": "image", "image": _NOTHING}] if self.has_picture else []

    def _asked(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.question}]}]


def rests_on(gains: Sequence[Sequence[float | None]], scored: GroundedAnswer, least: float) -> list[int | None]:
    """For every token that counts, the document that makes it likelier by the most, and at least by ``least`` nats."""
    counted = TokenFilter().counted([token.text for token in scored.tokens])
    return [_most(row, least) if index in counted else None for index, row in enumerate(gains)]


def _most(gains: Sequence[float | None], least: float) -> int | None:
    known = {number: gain for number, gain in enumerate(gains) if gain is not None and gain >= least}
    return max(known, key=lambda number: known[number], default=None)


def _pictured(parts: Sequence[Part]) -> bool:
    return any(part["type"] == "image" for part in parts)


def _grounds(grounding: float | None, parts: Sequence[Part]) -> bool:
    return grounding is None or grounding >= _GROUNDED or not _pictured(parts)
