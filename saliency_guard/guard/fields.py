"""The fields of structured answers, and the arguments of tool calls, as sentences: each of them is a claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from saliency_guard.answer import GroundedAnswer

_NO_CLAIM = "a field or an argument makes no claim that could be judged"
_PHRASE = 3
"""A field of so many words says something by itself, without its name."""


@dataclass(frozen=True, slots=True)
class JudgedText:
    """What of an answer is judged.

    Attributes:
        text: all of it: what is said, and then a sentence for every field.
        fields: these sentences; each has to make a claim that can be judged.
        values: what each field says, without its name.
    """

    text: str
    fields: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: str, *structured: Any) -> JudgedText:
        """A text and the fields of what stands beside it.

        Args:
            said: the text; may be empty.
            *structured: pydantic objects, dataclasses, dicts of arguments.
        """
        claims = [claim for value in structured for claim in _claims(_plain(value), "")]
        fields = tuple(sentence for sentence, _ in claims)
        text = " ".join(part for part in (said.strip(), *fields) if part)
        return cls(text, fields, tuple(value for _, value in claims))

    def checked(self, answer: GroundedAnswer) -> GroundedAnswer:
        """The scored text; without a grounding where one of its fields makes no claim that could be judged.

        Words that claim nothing in a sentence ("left") claim something as an argument.

        Args:
            answer: `text`, scored.
        """
        start = len(answer.text) - len(" ".join(self.fields))
        for field in self.fields:
            stop = start + len(field)
            if not any(claim.span[0] < stop and start < claim.span[1] for claim in answer.claims):
                update = {"grounding": None, "calibrated": False, "grounding_reason": _NO_CLAIM}
                return answer if answer.grounding is None else answer.model_copy(update=update)
            start = stop + 1
        return answer


def _plain(structured: Any) -> Any:
    if isinstance(structured, BaseModel):
        return structured.model_dump(mode="json")
    is_object = dataclasses.is_dataclass(structured) and not isinstance(structured, type)
    return dataclasses.asdict(structured) if is_object else structured


def _claims(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every field as a short sentence, and what it says."""
    if isinstance(value, Mapping):
        for key, field in value.items():
            yield from _claims(_plain(field), str(key).replace("_", " "))
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _claims(_plain(item), name)
    elif value is not None and str(value).strip():
        said = str(value).strip()
        sentence = said if not name or len(said.split()) >= _PHRASE else f"{name}: {said}"
        yield sentence if sentence.endswith((".", "!", "?")) else f"{sentence}.", said
