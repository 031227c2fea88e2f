"""``make notebooks`` runs the notebooks of docs/notebooks and stores what they show; tests run them, too."""

from __future__ import annotations

import os
import sys
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
    return notebook


def main() -> None:
    """Run all notebooks and store them."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(path), path)
        print(path.name)


if __name__ == "__main__":
    main()
