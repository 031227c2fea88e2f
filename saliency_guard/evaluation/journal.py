"""A run that can be cut off: results are appended to a JSONL file, and what is in it is not done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saliency_guard.errors import InputError
from saliency_guard.evaluation.files import output_folder
from saliency_guard.storage import parse_json, read_file, replace_file


class Journal:
    """Answers of one run with one set of settings, one JSON object a line, the settings first.

    Args:
        path: the file; it is made where it does not exist.
        settings: what the results depend on.

    Raises:
        InputError: if the file holds results of other settings, or is no journal.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self.results: dict[str, str] = {}
        output_folder(path.parent)
        # A run that stopped before its first line was whole has left nothing to go on from.
        if not path.exists() or b"\n" not in read_file(path):
            replace_file(path, f"{json.dumps({'settings': settings})}\n".encode())
        else:
            self._read(settings)

    def _read(self, settings: Mapping[str, Any]) -> None:
        written = read_file(self._path)
        # A line without its end was being written when the run stopped.
        whole = written[: written.rfind(b"\n") + 1]
        try:
            first, *rest = [parse_json(line) for line in whole.split(b"\n") if line]
            found = dict(first["settings"])
            self.results = {str(row["key"]): _answer(row) for row in rest}
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{self._path} is no journal of an earlier run: choose another --out, or delete it"
            raise InputError(msg) from error
        differing = [name for name in {**found, **settings} if found.get(name) != settings.get(name)]
        if differing:
            msg = (
                f"{self._path} holds results with other settings ({', '.join(sorted(differing))}): choose another "
                "--out, or delete it"
            )
            raise InputError(msg)
        if whole != written:
            replace_file(self._path, whole)

    def add(self, key: str, text: str) -> None:
        """Append one answer; it is on disk when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "text": text}) + "\n")
        self.results[key] = text


def _answer(row: dict[str, Any]) -> str:
    if not isinstance(row["text"], str):
        raise TypeError(row)
    return row["text"]
