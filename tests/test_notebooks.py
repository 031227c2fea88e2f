"""The notebooks run, and show what they were stored with."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
executed = runpy.run_path(str(FOLDER.parent / "hooks" / "notebooks.py"))["executed"]


def shown(notebook: Any) -> list[list[str]]:
    """The text of every cell's outputs; of pictures and pages only that they are there."""
    return [
        [
            "".join(output["text"]) if output["output_type"] == "stream" else " ".join(sorted(output.get("data", {})))
            for output in cell["outputs"]
        ]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_there_are_three() -> None:
    assert NOTEBOOKS == ["calibrate-your-model.ipynb", "first-look.ipynb", "guard-an-agent.ipynb"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:(zmq|tornado|jupyter_client|traitlets)")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_what_it_was_stored_with(name: str) -> None:
    import nbformat

    stored = nbformat.read(FOLDER / name, as_version=4)
    kinds = {output["output_type"] for cell in stored["cells"] for output in cell.get("outputs", [])}
    streams = {o["name"] for cell in stored["cells"] for o in cell.get("outputs", []) if o["output_type"] == "stream"}
    assert streams == {"stdout"}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert sum(map(len, shown(stored))) >= 4
    assert shown(executed(FOLDER / name)) == shown(stored)
    assert (FOLDER / name).stat().st_size < 300_000
