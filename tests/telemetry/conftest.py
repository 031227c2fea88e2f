"""OpenTelemetry whose spans, metrics and logs stay in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from in_memory_telemetry import Telemetry, kept_telemetry


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with kept_telemetry() as kept:
        yield kept
