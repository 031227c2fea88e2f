"""``make notebooks`` runs the notebooks of docs/notebooks and stores what they show; tests run them, too."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # bars that need a package of their own
}
FOLDER = Path(__file__).parent.parent / "notebooks"


def executed(path: Path) -> Any:
    """A notebook with what its cells show when they are run in order, in a kernel of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    # Sockets in a folder: no network, and no port that somebody else may take.
    with TemporaryDirectory() as sockets:
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel"),
            timeout=300,
            startup_timeout=120,
            resources={"metadata": {"path": str(path.parent)}},
            store_widget_state=False,
            record_timing=False,
        )
        client.execute(env={**os.environ, **_ENVIRONMENT})
    notebook.metadata = nbformat.from_dict({"kernelspec": _KERNEL})
    for data in (output["data"] for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output):
        if "image/png" in data:
            data.pop("image/jpeg", None)  # the same picture again
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Outputs with what was printed in one piece; in how many it comes is chance."""
    joined: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def main() -> None:
    """Run notebooks (all, or those that are named) and store them, in ``--out`` or where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(FOLDER.glob("*.ipynb")))
    parser.add_argument("--out", type=Path, help="another folder for what comes out")
    arguments = parser.parse_args()
    for path in arguments.notebooks:
        nbformat.write(executed(path), (arguments.out or path.parent) / path.name)
        print(path.name)


if __name__ == "__main__":
    main()
