"""The shapes of popular models are those of their checkpoints, and docs/models.md says what they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from saliency_guard.evaluation.popular import POPULAR, memory_row, popular_memory

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.mark.parametrize(
    ("name", "billions"), [("Qwen/Qwen2.5-VL-3B-Instruct", 3.75), ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", 2.25)]
)
def test_a_model_has_as_many_parameters_as_its_checkpoint(name: str, billions: float) -> None:
    memory = popular_memory(name)
    assert memory.parameters / 1e9 == pytest.approx(billions, abs=0.01)
    assert memory.nf4 < memory.int8 < memory.bfloat16
    assert f"| {' | '.join(memory_row(name, memory))} |" in PAGE.read_text(encoding="utf-8")


def test_every_popular_model_has_a_runbook() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(page.count(f"`{name}`") >= 1 and page.count(f"--model {name}") >= 2 for name in POPULAR)
