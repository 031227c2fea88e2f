"""Labelled answers: what a calibration is fitted on and a guarantee is tested on. A JSONL file, one record a line.

The first line is ``{"fingerprint": {...}, "generation": {...}}``: whose answers the others hold, and how they were
written (null where that is not known). Each other line is a `GroundingRecord`::

    {"picture": "600001", "draw": 0, "answer": {"text": ..., "tokens": [{"text": ..., "signals": {...}}, ...], ...},
     "mentions": [{"token": 5, "grounded": true}], "grounded": true,
     "counted": [3, 5], "vectors": {"saliency": "...", ...}}
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.features import GROUPS, SUMMARIES, Floats
from saliency_guard.calibration.fingerprint import Fingerprint
from saliency_guard.errors import InputError
from saliency_guard.settings import Frozen
from saliency_guard.storage import problem, read_model, read_text, replace_file, strict_json

TOLD = -1
"""The draw of an answer that the model did not write."""


class LabelledMention(Frozen):
    """A claim of an answer whose truth is known.

    Attributes:
        token: index of the token that begins it.
        grounded: whether the picture shows it.
        name: what is claimed: a class, a number, yes or no.
    """

    token: int
    grounded: bool
    name: str = ""


class GroundingRecord(Frozen):
    """One answer with its labels.

    Attributes:
        picture: what the answer is about; records of one picture are never fitted on and tested on at once.
        question: what was asked; with the picture it names the unit of a guarantee.
        draw: 0 for the first answer to the question, 1 for the first retry, and so on; -1 for an answer that the
            model did not write.
        answer: the answer; its tokens have the summary signals.
        mentions: its labelled claims.
        grounded: whether all of it is true.
        counted: indices of the tokens that ``vectors`` has rows for.
        vectors: feature group -> rows of float16, base64; may be empty, then only the signals can be used.
    """

    picture: str
    question: str = ""
    draw: int = 0
    answer: GroundedAnswer
    mentions: tuple[LabelledMention, ...] = ()
    grounded: bool
    counted: tuple[int, ...] = ()
    vectors: dict[str, str] = Field(default_factory=dict)

    @property
    def groups(self) -> frozenset[str]:
        """The feature groups it has; an answer in which nothing counts has all of them, without rows."""
        return frozenset({"signals", *self.vectors} if self.counted else GROUPS)

    def features(self, groups: Sequence[str]) -> Floats:
        """``[len(counted), k]`` of several groups, one after the other.

        Raises:
            InputError: if it does not have one of them.
        """
        missing = sorted(set(groups) - self.groups)
        if missing:
            msg = f"a record of picture {self.picture!r} has no {missing[0]!r} vectors: make the records anew"
            raise InputError(msg)
        found = np.concatenate([self._group(name) for name in groups], axis=1)
        return np.where(np.isfinite(found), found, np.nan)

    def _group(self, name: str) -> Floats:
        if name == "signals":
            tokens = [self.answer.tokens[index].signals for index in self.counted]
            rows = [[token.get(signal, np.nan) for signal in SUMMARIES] for token in tokens]
            return np.array(rows, dtype=np.float64).reshape(len(rows), len(SUMMARIES))
        if not self.counted:
            return np.empty((0, 0))
        return decoded(self.vectors[name], len(self.counted))


def encoded(rows: Floats) -> str:
    """Rows of numbers as base64 of little-endian float16; what does not fit is held at its limit."""
    limit = np.finfo(np.float16).max
    return base64.b64encode(np.clip(rows, -limit, limit).astype("<f2").tobytes()).decode("ascii")


def decoded(text: str, rows: int) -> Floats:
    """What `encoded` wrote.

    Raises:
        InputError: if it is no such text.
    """
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f2").astype(np.float64)
        return values.reshape(rows, -1 if rows else 0)
    except ValueError as error:
        msg = f"the vectors of a record are damaged: {error}"
        raise InputError(msg) from error


class Records:
    """Labelled answers of one model.

    Args:
        fingerprint: whose answers they are.
        records: the answers.
        generation: how they were written: keyword arguments of `LVLM.generate`, and ``retry_temperature`` for draws
            after the first; None where that is not known.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        records: Iterable[GroundingRecord],
        *,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.records = tuple(records)
        self.generation = dict(generation) if generation is not None else None

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[GroundingRecord]:
        return iter(self.records)

    def where(self, chosen: Iterable[bool]) -> Records:
        """Some of the records."""
        return Records(
            self.fingerprint,
            [record for record, wanted in zip(self.records, chosen, strict=True) if wanted],
            generation=self.generation,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSONL, whole or not at all."""
        header = {"fingerprint": self.fingerprint.model_dump(mode="json"), "generation": self.generation}
        lines = [json.dumps(header)]
        lines += [record.model_dump_json() for record in self.records]
        replace_file(path, ("\n".join(lines) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Records:
        """Read what `save` wrote.

        Raises:
            InputError: if the file cannot be read, or a line is no record; says which.
        """
        lines = read_text(path, name="records").split("\n")
        if not lines[0]:
            msg = f"{path} is empty: make records with `saliency-guard records`"
            raise InputError(msg)
        try:
            header = strict_json(lines[0])
            known = Fingerprint.model_validate(header["fingerprint"])
            generation = header.get("generation")
            if generation is not None:
                generation = dict(generation)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            msg = f"{path}, line 1: expected the fingerprint of a model, as `saliency-guard records` writes it"
            raise InputError(msg) from error
        found = [_record(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
        return cls(known, found, generation=generation)


def _record(path: str | os.PathLike[str], number: int, line: str) -> GroundingRecord:
    try:
        record = read_model(GroundingRecord, line)
    except (ValueError, RecursionError) as error:
        msg = f"{path}, line {number}: {problem(error)}"
        raise InputError(msg) from error
    count = len(record.answer.tokens)
    beyond = [index for index in (*record.counted, *(one.token for one in record.mentions)) if not 0 <= index < count]
    if beyond:
        msg = f"{path}, line {number}: there is no token {beyond[0]} in an answer of {count}"
        raise InputError(msg)
    return record
