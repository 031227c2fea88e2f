"""The folder of a run: a file of results and one of errors for every shard, each written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from saliency_guard.dataset.scoring import Scored
from saliency_guard.errors import InputError, require_extra
from saliency_guard.settings import Frozen
from saliency_guard.storage import complete_lines, parse_json, read_text, replace_file

Format = Literal["jsonl", "parquet"]

RUN_FILE = "run.json"
SHARDS_FILE = "shards.jsonl"


class SetAside(Frozen):
    """A record that could not be scored, and why.

    Attributes:
        id: of the record.
        record: its place in the file, from 1.
        error: the kind of error.
        message: what was wrong.
    """

    id: str
    record: int
    error: str
    message: str


class Shard(Frozen):
    """The summary of a shard: how many records were scored, are without a score, and were set aside."""

    shard: int
    scored: int
    unscored: int
    set_aside: int


class ShardFolder:
    """The results of a run.

    Results are in ``scores/`` and records that could not be scored in ``errors/``, a file of each for every shard.
    ``run.json`` has the settings, and ``shards.jsonl`` a line for every shard that is done: it is written last.

    Args:
        path: the folder; it is made.
        settings: everything that the results depend on.
        form: of the results.

    Raises:
        InputError: if it holds another run, or cannot be written.
        MissingExtraError: if results are to be parquet and pyarrow is not installed.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], form: Format) -> None:
        if form == "parquet":
            require_extra("pyarrow", "pyarrow", "parquet")
        self._path = path
        self._form = form
        try:
            for folder in (path / "scores", path / "errors"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot write to {path}: {error}"
            raise InputError(msg) from error
        wanted = parse_json(json.dumps({**settings, "format": form}))
        if (path / RUN_FILE).exists():
            self._require_same(wanted)
        else:
            (path / SHARDS_FILE).unlink(missing_ok=True)
            replace_file(path / RUN_FILE, f"{json.dumps(wanted, indent=2)}\n".encode())
        self.done = self._read_done()

    def _require_same(self, wanted: Mapping[str, Any]) -> None:
        file = self._path / RUN_FILE
        try:
            earlier = dict(parse_json(read_text(file)))
        except (ValueError, TypeError) as error:
            msg = f"{file} has no settings of an earlier run: choose another --out, or delete it"
            raise InputError(msg) from error
        differing = sorted(name for name in {**earlier, **wanted} if earlier.get(name) != wanted.get(name))
        if differing:
            msg = f"{file} is of a run with other settings ({', '.join(differing)}): choose another --out, or delete it"
            raise InputError(msg)

    def _read_done(self) -> dict[int, Shard]:
        file = self._path / SHARDS_FILE
        complete = complete_lines(file)
        if complete is None:
            return {}
        if len(complete) != file.stat().st_size:
            replace_file(file, complete)
        try:
            shards = [Shard.model_validate_json(line) for line in complete.split(b"\n") if line]
        except ValueError as error:
            msg = f"{file} does not say which shards are done: choose another --out, or delete it"
            raise InputError(msg) from error
        return {shard.shard: shard for shard in shards}

    def write(self, number: int, scored: Sequence[Scored], set_aside: Sequence[SetAside]) -> None:
        """Write a shard; it is on disk when this returns."""
        name = f"part-{number:05}"
        replace_file(self._path / "errors" / f"{name}.jsonl", _lines(set_aside))
        content = _lines(scored) if self._form == "jsonl" else _parquet(scored)
        replace_file(self._path / "scores" / f"{name}.{self._form}", content)
        unscored = sum(record.report["score"] is None for record in scored)
        shard = Shard(shard=number, scored=len(scored), unscored=unscored, set_aside=len(set_aside))
        with (self._path / SHARDS_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{shard.model_dump_json()}\n")
        self.done[number] = shard


def _lines(records: Sequence[Scored] | Sequence[SetAside]) -> bytes:
    return "".join(f"{record.model_dump_json()}\n" for record in records).encode()


def _parquet(records: Sequence[Scored]) -> bytes:
    """A table; the report's main fields are columns of their own, all of it is in ``report`` as JSON."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    kinds = {
        "id": pa.string(),
        "text": pa.string(),
        "model": pa.string(),
        "score": pa.float64(),
        "calibrated": pa.bool_(),
        "reason": pa.string(),
        "decision": pa.string(),
        "threshold": pa.float64(),
        "report": pa.string(),
    }
    rows = [
        {**record.report, "id": record.id, "text": record.text, "model": record.model}
        | {"report": json.dumps(record.report, ensure_ascii=False)}
        for record in records
    ]
    columns = {name: [row[name] for row in rows] for name in kinds}
    out = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=pa.schema(kinds)), out)
    return out.getvalue()
