"""Structured answers and tool calls under a policy: what they say is judged field by field, as sentences.

Calibrations are fitted on sentences: what they would say of JSON is no probability.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saliency_guard.answer import Claim, GroundedAnswer
from saliency_guard.calibration.claim_features import claim_tokens
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.chat.tools import read_calls
from saliency_guard.claim_judge import JudgedClaims
from saliency_guard.guard.fields import JudgedText
from saliency_guard.guard.outcome import EMPTY_ANSWER, Attempt
from saliency_guard.guard.settings import PolicySettings
from saliency_guard.lvlm import LVLM
from saliency_guard.storage import parse_json

ReadFields = Callable[[GroundedAnswer], JudgedText | None]
"""What of an answer is judged: with fields where it is structured, and None where it claims nothing (a tool call
without arguments)."""

_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false')


def object_fields(answer: GroundedAnswer) -> JudgedText:
    """What an answer that is held to a JSON schema says; the answer as it is where it was cut short."""
    try:
        # Of a key that stands there twice, both are said.
        value = parse_json(answer.text, object_pairs_hook=lambda pairs: [{name: field} for name, field in pairs])
    except ValueError:
        return JudgedText(answer.text)
    return JudgedText.of("", value)


def call_fields(tokenizer: Any, *, was_forced: bool) -> ReadFields:
    """What answers say in which there may be tool calls: the text beside the calls, and the calls' arguments.

    Args:
        tokenizer: of the model that writes them.
        was_forced: whether an answer is held to the schema of a call.
    """

    def read(answer: GroundedAnswer) -> JudgedText | None:
        parsed = read_calls(answer.text, [token.token_id for token in answer.tokens], tokenizer, was_forced=was_forced)
        judged = JudgedText.of(parsed.text, *(call.arguments for call in parsed.calls), *parsed.malformed)
        return None if parsed.calls and not judged.text else judged

    return read


def scored(
    lvlm: LVLM,
    prompt: PreparedPrompt,
    answer: GroundedAnswer,
    said: JudgedText,
    *,
    options: Mapping[str, Any],
    cancel: threading.Event,
) -> GroundedAnswer:
    """A structured answer with the grounding of its fields; as it is where no calibration covers it.

    Args:
        lvlm: judges.
        prompt: what is answered.
        answer: structured.
        said: what it says.
        options: of `LVLM.generate`.
        cancel: stops the work once it is set.

    Raises:
        CancelledError: if ``cancel`` is set.
    """
    if lvlm.calibrator is None or options["saliency"] is None:
        return answer
    sentences = lvlm.score(prompt, said.text, saliency=options["saliency"], verify=options["verify"], cancel=cancel)
    return judged_by_fields(answer, said, sentences)


def says_nothing(attempt: Attempt, said: JudgedText) -> Attempt:
    """An attempt, which is refused as an empty answer is where its answer has no field that says anything."""
    if said.text or not attempt.answer.text:
        return attempt
    return attempt.model_copy(update={"score": None, "refused": EMPTY_ANSWER.refused, "reason": None})


def without_repair(policy: PolicySettings) -> dict[str, Any]:
    """Settings replaced for structured answers: no repair, since an answer without a value may not fit its schema."""
    return {"on_low": "flag"} if policy.on_low == "repair" else {}


def judged_by_fields(answer: GroundedAnswer, said: JudgedText, sentences: GroundedAnswer) -> GroundedAnswer:
    """A structured answer with the claims of its fields; its tokens, saliency and signals stay its own.

    Args:
        answer: structured.
        said: what it says.
        sentences: ``said.text``, scored.
    """
    checked = said.checked(sentences)
    places = _Places(answer.text, said)
    claims = tuple(places.in_answer(claim) for claim in checked.claims)
    pieces = [token.text for token in answer.tokens]
    decided = tuple(claim_tokens(pieces, claim.extracted()) for claim in claims)
    tokens = JudgedClaims(claims, decided).with_groundings(answer.tokens)
    return answer.model_copy(
        update={
            "tokens": tuple(tokens),
            "claims": claims,
            "grounding": checked.grounding,
            "grounding_reason": checked.grounding_reason,
            "calibrated": checked.calibrated,
            "domain": checked.domain,
        }
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of what is judged, and where it stands in the answer.

    Attributes:
        start: its first character in what is judged.
        stop: the one after its last.
        value: the words in it that stand in the answer; the rest is a field's name.
        span: of these words in the answer; None where they are not found.
        is_same: whether they stand there letter by letter.
    """

    start: int
    stop: int
    value: str
    span: tuple[int, int] | None
    is_same: bool


class _Places:
    """Where the claims of what is judged stand in the answer.

    Args:
        text: of the answer.
        said: what of it is judged.
    """

    def __init__(self, text: str, said: JudgedText) -> None:
        self._text = text
        self._judged = said.text
        self._pieces = list(_pieces(text, said))

    def in_answer(self, claim: Claim) -> Claim:
        """A claim with its characters in the answer: its own words, else its field's value, else all of it."""
        start, stop = claim.span
        piece = next((piece for piece in self._pieces if piece.start <= start < piece.stop), None)
        span = piece.span if piece is not None else None
        if piece is not None and span is not None and piece.is_same:
            first = piece.start + self._judged[piece.start : piece.stop].rfind(piece.value)
            if first <= start and stop <= first + len(piece.value):
                span = (span[0] + start - first, span[0] + stop - first)
        span = span or (0, len(self._text))
        return claim.model_copy(update={"span": span, "text": self._text[slice(*span)]})


def _pieces(text: str, said: JudgedText) -> Iterator[_Piece]:
    """What is judged, in its parts: the text beside the fields, and every field."""
    start = len(said.text) - len(" ".join(said.fields))
    beside = said.text[:start].strip()
    if beside:
        place = text.find(beside)
        yield _Piece(0, len(beside), beside, None if place < 0 else (place, place + len(beside)), is_same=True)
    values = list(_values(text))
    for field, value in zip(said.fields, said.values, strict=True):
        place = next((number for number, (_, _, value_text) in enumerate(values) if value_text == value), -1)
        span = None
        if place >= 0:
            span = values[place][:2]
            values = values[place + 1 :]
        is_same = span is not None and text[slice(*span)] == value
        yield _Piece(start, start + len(field), value, span, is_same)
        start += len(field) + 1


def _values(text: str) -> Iterator[tuple[int, int, str]]:
    """The strings, numbers, true and false of JSON in a text that are no keys: their characters, and what they say."""
    for match in _SCALAR.finditer(text):
        start, stop = match.span()
        is_string = match[0].startswith('"')
        if is_string and text[stop:].lstrip().startswith(":"):
            continue
        try:
            value_text = str(json.loads(match[0], strict=False)).strip()
        except ValueError:
            continue
        yield (start + 1, stop - 1, value_text) if is_string else (start, stop, value_text)
