"""Labelled answers: what a calibration is fitted on and a guarantee is tested on. A JSONL file, one record a line.

The first line is ``{"fingerprint": {...}, "generation": {...}, "verify": {...}}``: whose answers the others hold, how
they were written (null where that is not known) and how their claims were verified (null where they were not). Each
other line is a `GroundingRecord`::

    {"picture": "600001", "draw": 0, "answer": {"text": ..., "tokens": [{"text": ..., "signals": {...}}, ...], ...},
     "claims": [{"kind": "object", "start": 17, "stop": 20, "tokens": [5], "verified": 0.98, "grounded": true}],
     "grounded": true, "vectors": {"evidence": "...", ...}, "domain": ["..."]}
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.features import (
    GROUPS,
    RECOGNISED,
    RECOGNISED_SIZE,
    SUMMARIES,
    VERIFICATION,
    Floats,
    recognised_rows,
    verification_rows,
)
from saliency_guard.calibration.fingerprint import Fingerprint
from saliency_guard.claims.extract import ClaimKind
from saliency_guard.errors import InputError
from saliency_guard.settings import Count, Frozen, Probability
from saliency_guard.signals.verification import VerifyConfig
from saliency_guard.storage import problem, read_model, read_text, replace_file, strict_json

GIVEN = -1
"""The draw of an answer that the model did not write."""


class LabelledClaim(Frozen):
    """A claim of an answer, and whether it is true.

    Attributes:
        kind: of the claim.
        start: its first character in the answer.
        stop: the character after its last.
        tokens: indices of the tokens that decide it (see `claim_tokens`).
        verified: the model's own probability that it holds, asked about alone; None where it was not asked, or did not
            say yes or no.
        grounded: whether it is true; None where that is not known.
    """

    kind: ClaimKind
    start: Count
    stop: Count
    tokens: tuple[Count, ...]
    verified: Probability | None = None
    grounded: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> LabelledClaim:
        if self.stop <= self.start or not self.tokens:
            msg = f"a claim from {self.start} to {self.stop} with {len(self.tokens)} tokens says nothing"
            raise ValueError(msg)
        return self


class GroundingRecord(Frozen):
    """One answer with its labels.

    Attributes:
        picture: what the answer is about; records of one picture (or of the same documents) are never fitted on and
            tested on at once.
        pictures: how many pictures the prompt has; 0 with text documents alone.
        document_lengths: characters of each text document of the prompt.
        question: what was asked; with the picture it names the unit of a guarantee.
        draw: 0 for the first answer to the question, 1 for the first retry, and so on; -1 for an answer that the
            model did not write.
        answer: the answer; its tokens have the summary signals.
        claims: its claims.
        grounded: whether all of it is true; None where that is not known.
        vectors: feature group -> a row of float16 for each claim, base64; may be empty, then only signals and
            verification can be used.
        domain: what `saliency_guard.domain_features` gives for each picture, float16, base64.
        redrawn: whether its pictures were made to be unlike those that the calibration is for: how claims go wrong is
            learnt from it, too; the pictures that are covered, reports and guarantees are those of the others alone.
    """

    picture: str
    pictures: Count = 1
    document_lengths: tuple[Annotated[int, Field(ge=1)], ...] = ()
    question: str = ""
    draw: int = 0
    answer: GroundedAnswer
    claims: tuple[LabelledClaim, ...] = ()
    grounded: bool | None
    vectors: dict[str, str] = Field(default_factory=dict)
    domain: tuple[str, ...] = ()
    redrawn: bool = False

    @model_validator(mode="after")
    def _check(self) -> GroundingRecord:
        if not self.pictures and not self.document_lengths:
            msg = f"the prompt of record {self.picture!r} has neither pictures nor text documents"
            raise ValueError(msg)
        return self

    @property
    def documents(self) -> int:
        """How many text documents the prompt has."""
        return len(self.document_lengths)

    @property
    def groups(self) -> frozenset[str]:
        """The feature groups it has; an answer without claims has all of them, without rows."""
        if not self.claims:
            return frozenset({*GROUPS, VERIFICATION, RECOGNISED})
        recognised = {RECOGNISED} if self.domain_features.shape[1] > RECOGNISED_SIZE else set()
        return frozenset({"signals", VERIFICATION, *recognised, *self.vectors})

    def features(self, groups: Sequence[str]) -> Floats:
        """``[claims, k]`` of several groups, one after the other.

        Raises:
            InputError: if it does not have one of them.
        """
        missing = sorted(set(groups) - self.groups)
        if missing:
            msg = f"a record of picture {self.picture!r} has no {missing[0]!r} vectors: make the records anew"
            raise InputError(msg)
        if not self.claims:
            return np.empty((0, 0))
        values = np.concatenate([self._group(name) for name in groups], axis=1)
        return np.where(np.isfinite(values), values, np.nan)

    def _group(self, name: str) -> Floats:
        if name == VERIFICATION:
            return verification_rows([claim.verified for claim in self.claims], self.pictures or self.documents)
        if name == RECOGNISED:
            return recognised_rows(self.domain_features, len(self.claims))
        if name == "signals":
            tokens = [token.signals for token in self.answer.tokens]
            table = np.array(
                [[signals.get(name, np.nan) for name in SUMMARIES] for signals in tokens], dtype=np.float64
            )
            return claim_rows(table, [claim.tokens for claim in self.claims])
        return decoded(self.vectors[name], len(self.claims))

    @property
    def domain_features(self) -> Floats:
        """``[pictures, k]``; without rows where the record has none."""
        if not self.domain:
            return np.empty((0, 0))
        return np.concatenate([decoded(row, 1) for row in self.domain])


def claim_rows(table: Floats, tokens: Sequence[Sequence[int]]) -> Floats:
    """``[claims, k]``: the mean of each claim's tokens in ``[N, k]``; NaN only where none of them has a number."""
    rows = [np.ma.masked_invalid(table[list(each)]).mean(axis=0).filled(np.nan) for each in tokens]
    return np.array(rows, dtype=np.float64).reshape(len(tokens), table.shape[1])


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
        verify: how their claims were verified; None where they were not.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        records: Iterable[GroundingRecord],
        *,
        generation: Mapping[str, Any] | None = None,
        verify: VerifyConfig | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.records = tuple(records)
        self.generation = dict(generation) if generation is not None else None
        self.verify = verify

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
            verify=self.verify,
        )

    def joined(self, others: Records) -> Records:
        """These and other records of the same model."""
        return Records(
            self.fingerprint, [*self.records, *others.records], generation=self.generation, verify=self.verify
        )

    @property
    def usual(self) -> Records:
        """Those whose pictures were not redrawn."""
        return self.where(not record.redrawn for record in self.records)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSONL, whole or not at all."""
        lines = [self.header(), *(record.model_dump_json() for record in self.records)]
        replace_file(path, ("\n".join(lines) + "\n").encode())

    def header(self) -> str:
        """The first line of a file of records."""
        return json.dumps(
            {
                "fingerprint": self.fingerprint.model_dump(mode="json"),
                "generation": self.generation,
                "verify": self.verify.model_dump(mode="json") if self.verify is not None else None,
            }
        )

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
            generation, verify = header.get("generation"), header.get("verify")
            if generation is not None:
                generation = dict(generation)
            config = VerifyConfig.model_validate(verify) if verify is not None else None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            msg = f"{path}, line 1: expected the fingerprint of a model, as `saliency-guard records` writes it"
            raise InputError(msg) from error
        records = [_record(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
        return cls(known, records, generation=generation, verify=config)


def _record(path: str | os.PathLike[str], number: int, line: str) -> GroundingRecord:
    try:
        record = read_model(GroundingRecord, line)
    except (ValueError, RecursionError) as error:
        msg = f"{path}, line {number}: {problem(error)}"
        raise InputError(msg) from error
    count = len(record.answer.tokens)
    beyond = [token for claim in record.claims for token in claim.tokens if token >= count]
    if beyond:
        msg = f"{path}, line {number}: there is no token {beyond[0]} in an answer of {count}"
        raise InputError(msg)
    return record
