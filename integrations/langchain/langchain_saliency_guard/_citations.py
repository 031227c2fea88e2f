"""Which characters of an answer rest on which retrieved document, as LangChain's messages say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, content

from saliency_guard import GuardOutcome
from saliency_guard.adapters import JudgedAnswer


@dataclass(frozen=True, slots=True)
class Citation:
    """A claim of an answer, and the document that it rests on.

    Attributes:
        id: of the document: its id, else its ``source``, else its index in the list.
        index: of the document in the list.
        start: the claim's first character in the text of the answer.
        end: the character after its last.
        text: the claim's own words.
        grounding: its calibrated probability; None for a claim about a text, and where no calibration fits.
        verified: the model's own probability that it holds.
    """

    id: str
    index: int
    start: int
    end: int
    text: str
    grounding: float | None = None
    verified: float | None = None


@dataclass(frozen=True, slots=True)
class CitedAnswer:
    """An answer and its sources; plain values, which LangGraph's checkpoints keep.

    A stream gives pieces that add up to it.

    Attributes:
        message: the answer; its text block has the citations as annotations, and its
            ``response_metadata["grounding"]`` is the usual report with ``documents`` (id -> share of the saliency).
        citations: of the claims that rest on a document, in the order of the text.
        accepted: whether callers may go on with the message: the policy accepts it, and every claim of it.
    """

    message: AIMessage
    citations: tuple[Citation, ...] = ()
    accepted: bool = False

    def __post_init__(self) -> None:
        # Checkpoints give back lists, and in their strict mode dicts.
        made = (Citation(**given) if isinstance(given, Mapping) else given for given in self.citations)
        object.__setattr__(self, "citations", tuple(made))

    def __add__(self, other: CitedAnswer) -> CitedAnswer:
        """Pieces of a stream, put together."""
        message: Any = cast("Any", self.message) + other.message  # Chunks.
        return CitedAnswer(message, (*self.citations, *other.citations), self.accepted or other.accepted)


def citations_of(judged: JudgedAnswer, outcome: GuardOutcome, names: Sequence[str]) -> tuple[Citation, ...]:
    """The citations in the text that is given out: of a repaired answer, what is left of them.

    Args:
        judged: the answer and what its claims rest on.
        outcome: what the policy decided for it.
        names: of the documents.
    """
    citations: list[Citation] = []
    cursor = 0
    for claim, number in judged.cited(outcome):
        start = claim.span[0] if outcome.repaired is None else outcome.text.find(claim.text, cursor)
        if start < 0:
            continue
        cursor = start if outcome.repaired is not None else cursor
        end = start + len(claim.text)
        citations.append(Citation(names[number], number, start, end, claim.text, claim.grounding, claim.verified))
    return tuple(citations)


def annotated(message: AIMessage, citations: Sequence[Citation]) -> AIMessage:
    """The message with its citations as annotations of its text; as it is where there is none, or it has other blocks.

    Args:
        message: what is given out.
        citations: of characters of its text.
    """
    if not citations or not isinstance(message.content, str):
        return message
    annotations = [
        content.Citation(
            type="citation",
            title=citation.id,
            start_index=citation.start,
            end_index=citation.end,
            extras={"document": citation.index, "grounding": citation.grounding},
        )
        for citation in citations
    ]
    block: dict[str, Any] = {"type": "text", "text": message.content, "annotations": annotations}
    return message.model_copy(update={"content": [block]})


def piece(chunk: AIMessageChunk, whole: CitedAnswer) -> CitedAnswer:
    """A piece of a stream; the last one has the citations and the verdict."""
    is_last = chunk.chunk_position == "last"
    return CitedAnswer(chunk, whole.citations if is_last else (), accepted=is_last and whole.accepted)
