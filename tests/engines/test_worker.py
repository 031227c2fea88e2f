"""What runs in an actor's process, in this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from saliency_guard.engines.worker import ModelWorker


def lengths(model: str, items: Sequence[str]) -> list[tuple[str, int]]:
    return [(model, len(item)) for item in items]


def test_it_works_with_the_model_that_it_loaded() -> None:
    worker = ModelWorker()
    worker.load(lambda: "model")
    assert worker.run(lengths, ["a", "bb"]) == [("model", 1), ("model", 2)]


def test_a_new_worker_imports_no_torch() -> None:
    code = "import sys, saliency_guard.engines.worker; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert out.stdout == "False\n"
