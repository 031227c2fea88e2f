from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from saliency_guard.embedded import EMBEDDED_PATH


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there once anything in the folder was run."""
    return tmp_path / "was-run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded model, to be broken."""
    return Path(shutil.copytree(EMBEDDED_PATH, tmp_path / "model"))
