"""Folders with a model, to be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saliency_guard import LVLM, ModelError


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


def assert_refused_in_one_sentence(folder: Path, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        LVLM.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
