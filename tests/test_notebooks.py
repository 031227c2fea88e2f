"""The notebooks run, and show what they were stored with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
RUN = FOLDER.parent / "hooks" / "notebooks.py"


def shown(notebook: Any) -> list[tuple[str, list[str]]]:
    """The text that every cell prints, and of pictures and pages only that they are there."""
    return [
        (
            "".join("".join(each["text"]) for each in cell["outputs"] if each["output_type"] == "stream"),
            [" ".join(sorted(each["data"])) for each in cell["outputs"] if "data" in each],
        )
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_there_are_three() -> None:
    assert NOTEBOOKS == ["calibrate-your-model.ipynb", "first-look.ipynb", "guard-an-agent.ipynb"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_what_it_was_stored_with(name: str, tmp_path: Path) -> None:
    stored = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    kinds = {output["output_type"] for cell in stored["cells"] for output in cell.get("outputs", [])}
    streams = {o["name"] for cell in stored["cells"] for o in cell.get("outputs", []) if o["output_type"] == "stream"}
    assert streams == {"stdout"}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert sum(bool(printed) for printed, _ in shown(stored)) >= 4
    # In a process of its own: the kernel's client leaves sockets to the garbage collector.
    command = [sys.executable, str(RUN), str(FOLDER / name), "--out", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own notebooks
    assert ran.returncode == 0, ran.stderr
    assert shown(json.loads((tmp_path / name).read_text(encoding="utf-8"))) == shown(stored)
    assert (FOLDER / name).stat().st_size < 300_000
