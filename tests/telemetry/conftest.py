"""OpenTelemetry whose spans, metrics and logs stay in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from in_memory_telemetry import Telemetry

from saliency_guard.telemetry import uninstrument


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    kept = Telemetry()
    yield kept
    uninstrument()
    kept.shutdown()
