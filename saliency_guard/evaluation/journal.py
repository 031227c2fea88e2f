"""A run that can be cut off: results are appended to a JSONL file, and what is in it is not done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saliency_guard.errors import InputError
from saliency_guard.evaluation.files import replace_file


class Journal:
    """Results of one run with one set of settings, one JSON object a line, the settings first.

    Args:
        path: the file; it is made where it does not exist.
        settings: what the results depend on.

    Raises:
        InputError: if the file holds results of other settings, or is no journal.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self.results: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._read(settings)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")

    def _read(self, settings: Mapping[str, Any]) -> None:
        written = self._path.read_bytes()
        # A line without its end was being written when the run stopped.
        whole = written[: written.rfind(b"\n") + 1]
        try:
            first, *rest = [json.loads(line) for line in whole.split(b"\n") if line]
            found = first["settings"]
            self.results = {row["key"]: row for row in rest}
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

    def add(self, key: str, result: Mapping[str, Any]) -> None:
        """Append one result; it is on disk when this returns."""
        row = {"key": key, **result}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.results[key] = row
