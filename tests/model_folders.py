"""Folders with a model, to be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


def drop(folder: Path, name: str, key: str) -> None:
    known = json.loads((folder / name).read_text())
    known.pop(key, None)
    (folder / name).write_text(json.dumps(known))
