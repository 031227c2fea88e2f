"""These tests need a GPU: without one the run fails, so that nobody takes silence for a result."""

from __future__ import annotations

import pytest
import torch


def pytest_collection_finish(session: pytest.Session) -> None:
    if not torch.cuda.is_available():
        pytest.exit("there is no GPU that torch can use", returncode=2)
