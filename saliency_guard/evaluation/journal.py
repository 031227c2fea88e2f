"""A journal for runs that may be interrupted: results are appended to a JSONL file and not computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saliency_guard.errors import InputError
from saliency_guard.evaluation.files import output_folder
from saliency_guard.storage import complete_lines, parse_json, replace_file


class Journal:
    """The answers of a run, one JSON object per line; the first line has the settings.

    Args:
        path: the file; it is created if it does not exist.
        settings: everything that the results depend on.

    Raises:
        InputError: if the file has results with other settings, or is not a journal.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self.results: dict[str, str] = {}
        output_folder(path.parent)
        complete = complete_lines(path)
        if complete is None:
            replace_file(path, f"{json.dumps({'settings': settings})}\n".encode())
        else:
            self._read(complete, settings)

    def _read(self, complete: bytes, settings: Mapping[str, Any]) -> None:
        try:
            first, *rest = [parse_json(line) for line in complete.split(b"\n") if line]
            earlier_settings = dict(first["settings"])
            self.results = {str(row["key"]): _answer(row) for row in rest}
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{self._path} is not a journal of an earlier run: choose another --out, or delete it"
            raise InputError(msg) from error
        names = {**earlier_settings, **settings}
        differing = [name for name in names if earlier_settings.get(name) != settings.get(name)]
        if differing:
            msg = (
                f"{self._path} has results with other settings ({', '.join(sorted(differing))}): choose another "
                "--out, or delete it"
            )
            raise InputError(msg)
        if len(complete) != self._path.stat().st_size:
            replace_file(self._path, complete)

    def add(self, key: str, text: str) -> None:
        """Append an answer; it is on disk when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "text": text}) + "\n")
        self.results[key] = text


def _answer(row: dict[str, Any]) -> str:
    if not isinstance(row["text"], str):
        raise TypeError(row)
    return row["text"]
