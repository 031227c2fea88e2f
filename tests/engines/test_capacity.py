"""What is computed of models' memory and speed, against arithmetic by hand, and the sheet in the documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from saliency_guard import ConfigError
from saliency_guard.engines.capacity import GIB, Gpu, ModelShape, capacity, sheet

SMALL = ModelShape("small", 1e9, layers=10, kv_heads=4, head_size=64)


def test_it_is_arithmetic() -> None:
    assert SMALL.kv_bytes() == 2 * 10 * 4 * 64 * 2
    found = capacity(SMALL, Gpu("round", 10, 1000), positions=1000, most_answers=8)
    assert found.weights == pytest.approx(2e9 / GIB)
    assert found.per_answer == pytest.approx(10_240_000 / GIB)
    assert found.answers == 8
    assert found.tokens_per_second == pytest.approx(8 * 1e12 / (2e9 + 8 * 10_240_000))


def test_memory_is_the_limit() -> None:
    gpu = Gpu("tight", 2.2, 1000)
    tight = capacity(SMALL, gpu, positions=10_000)
    assert tight.answers == int((2.2 * 0.9 * GIB - 2e9) // 102_400_000) == 1
    nothing = capacity(SMALL, Gpu("tiny", 1.0, 1000))
    assert (nothing.answers, nothing.tokens_per_second) == (0, 0.0)
    assert capacity(SMALL, Gpu("tiny", 1.0, 1000), gpus=4).answers > 0
    assert capacity(SMALL, gpu, positions=10_000, bytes_per_number=4.0).answers == 0
    with pytest.raises(ConfigError, match="above 0"):
        capacity(SMALL, gpu, positions=0)


def test_the_document_has_the_sheet_that_is_computed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert sheet() in text
