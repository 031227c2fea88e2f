"""The page about speed: tables of what was measured, and nothing about what was not."""

from __future__ import annotations

from saliency_guard.evaluation import speed
from saliency_guard.evaluation.machine import Floor
from saliency_guard.evaluation.speed import Timing
from saliency_guard.evaluation.speed_page import cost_curves, speed_section
from saliency_guard.evaluation.speed_parts import FEW, PeakMemory, SpeedTables

ENVIRONMENT = {
    "parameters": 7_063_000_000,
    "dtype": "bfloat16",
    "device": "a GPU",
    "torch": "2.13.0",
    "transformers": "5.23.0",
}
SECONDS = {speed.PLAIN: 4.0, speed.READING: 0.8, speed.TOGETHER: 10.0, speed.GROUNDED_TOGETHER: 12.5}
NAMES = (speed.PLAIN, speed.READING, speed.TOGETHER, speed.GROUNDED_TOGETHER, *FEW)


def timings(prompt: int, tokens: int) -> tuple[Timing, ...]:
    seconds = {name: SECONDS.get(name, 6.0) for name in NAMES}
    return tuple(Timing(name, prompt, tokens, (taken, taken), taken / 4, 1.4) for name, taken in seconds.items())


def test_only_what_was_measured_has_a_table() -> None:
    measured = SpeedTables(floor=(Floor(13_200_000_000, 0.0042, 8_000_000_000_000, 0.0125),), answers=timings(640, 64))
    text = speed_section(measured, ENVIRONMENT, "saliency-guard bench speed")
    assert "Random LLaVA of 7,063 M parameters in bfloat16, a GPU, torch 2.13.0" in text
    assert "| SGRS and LocoRE, 2% rejected | 6.00 | 93.8 | 1.50 | 1.40 |" in text
    assert "A batch of eight with grounding takes 1.25 times" in text
    assert "a token reads 13,200 MB of weights, 4.2 ms by themselves (a token of plain generate takes 50 ms" in text
    assert "8,000 GFLOP of products with weights, 0.013 s by themselves" in text
    for absent in ("candidate", "embedded", "captions", "Concurrent", "other lengths", "memory to plain"):
        assert absent not in text


def test_memory_is_a_column_and_other_lengths_a_table() -> None:
    measured = SpeedTables(
        floor=(Floor(8_000_000, 0.002, 3_000_000_000, 0.25),),
        answers=timings(640, 64),
        memory=tuple(PeakMemory(name, 1.25) for name in NAMES),
        lengths=(*timings(640, 128), *timings(1024, 64)),
    )
    text = speed_section(measured, ENVIRONMENT, "saliency-guard bench speed")
    assert "| writing alone | peak memory to plain |" in text
    assert "| SGRS and LocoRE, 2% rejected | 6.00 | 93.8 | 1.50 | 1.40 | 1.25 |" in text
    assert "The random LLaVA at other lengths:" in text
    assert "| SGRS and LocoRE, 2% rejected, prompt 1024, 64 tokens | 6.00 | 93.8 | 1.50 | 1.40 |" in text
    curves = cost_curves(measured)
    assert curves["prompt"]["SGRS and LocoRE, 2% rejected"] == [(640, 1.5), (1024, 1.5)]
    assert curves["answer"]["SGRS and LocoRE, 2% rejected"] == [(64, 1.5), (128, 1.5)]
    assert set(curves["prompt"]) == set(FEW)
