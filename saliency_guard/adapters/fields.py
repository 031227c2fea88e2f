"""The fields of a structured answer as sentences: every field is a claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

_PHRASE = 3
"""A field of so many words says something by itself, without its name."""


def fields_text(structured: Any) -> str:
    """What a structured answer claims, field by field.

    Args:
        structured: a pydantic object, a dataclass, or a dict.
    """
    return " ".join(_claims(_plain(structured), ""))


def _plain(structured: Any) -> Any:
    if isinstance(structured, BaseModel):
        return structured.model_dump(mode="json")
    is_object = dataclasses.is_dataclass(structured) and not isinstance(structured, type)
    return dataclasses.asdict(structured) if is_object else structured


def _claims(value: Any, name: str) -> Iterator[str]:
    """Every field as a short sentence."""
    if isinstance(value, Mapping):
        for key, field in value.items():
            yield from _claims(_plain(field), str(key).replace("_", " "))
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _claims(_plain(item), name)
    elif value is not None and str(value).strip():
        said = str(value).strip()
        sentence = said if not name or len(said.split()) >= _PHRASE else f"{name}: {said}"
        yield sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
