"""`bench speed`: the page says what was timed. What is timed is tested in evaluation/test_speed.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run

from saliency_guard import LVLM
from saliency_guard.evaluation import answer_cost, concurrency, machine, speed

SECONDS = {speed.PLAIN: 4.0, speed.READING: 0.8, speed.TOGETHER: 10.0, speed.GROUNDED_TOGETHER: 12.5}


@pytest.fixture(autouse=True)
def fixed_times(monkeypatch: pytest.MonkeyPatch, lvlm: LVLM) -> None:
    """The embedded model instead of a large one, and the same times on every machine."""

    def compare(
        model: Any,
        inputs: Mapping[str, torch.Tensor],
        tokens: int,
        names: Sequence[str],
        *,
        rounds: int,
        on_round: Any = lambda: None,
    ) -> list[speed.Timing]:
        on_round()
        ways = dict.fromkeys([speed.PLAIN, speed.READING, *speed.installed(names)])
        prompt = inputs["input_ids"].shape[1]
        seconds = {name: SECONDS.get(name, 6.0) for name in ways}
        return [
            speed.Timing(name, prompt, tokens, (taken,) * rounds, taken / 4, 1.5) for name, taken in seconds.items()
        ]

    calls = concurrency.Concurrency(concurrency.CONCURRENT, 20, 400, (4.0, 5.0), 1.8, rows=6.5, gap=0.0314)
    streams = concurrency.Concurrency(concurrency.STREAMS, 8, 1024, (32.0, 32.0), 2.1, writing=2.75, rows=7.9)
    caption = answer_cost.AnswerCost(answer_cost.GROUNDED, 200, (3.0, 5.0), 1.6)
    monkeypatch.setattr(answer_cost, "answer_costs", lambda *_, **__: [caption])
    monkeypatch.setattr(concurrency, "concurrent_calls", lambda *_, **__: [calls])
    monkeypatch.setattr(concurrency, "concurrent_streams", lambda *_, **__: [streams])
    monkeypatch.setattr(speed, "random_llava", lambda *_, **__: lvlm.model)
    monkeypatch.setattr(speed, "llava_prompt", lambda _, length: {"input_ids": torch.ones(1, length, dtype=torch.long)})
    monkeypatch.setattr(speed, "compare", compare)
    monkeypatch.setattr(machine, "timed", lambda *_: 9.6)
    monkeypatch.setattr(machine, "floor", lambda *_: machine.Floor(8_000_000, 0.002, 3_000_000_000, 0.25))


def test_the_tables_hold_what_was_timed(tmp_path: Path) -> None:
    text = run("bench", "speed", "--quick", "--rounds", "2", "--out", str(tmp_path))
    assert "saliency-guard bench speed --rounds 2 --quick" in text
    assert "prompt of 640 positions (576 of the picture), 16 tokens; median of 2" in text
    assert "| plain generate (sdpa) | 4.00 | 250.0 | 1.00 |" in text
    assert "| with grounding | 6.00 | 375.0 | 1.50 |" in text
    # A plain token takes (4.0 - 0.8) / 16 = 0.2 seconds, a guarded one (6.0 - 0.8) / 16.
    assert "loss.backward(), 640 positions | 9.60 | 48 | 30 |" in text
    assert "a token reads 8 MB of weights, 2 ms by themselves (a token of plain generate takes 200 ms" in text
    assert text.count("A batch of eight with grounding takes 1.25 times as long") == 2
    assert "The embedded model, prompt of" in text
    assert "8 captions of different scenes by the embedded model (200 tokens together)" in text
    assert "every claim verified and judged | 4.00 | 20.0 | 1.60 |" in text
    assert "| concurrent calls (`agenerate`) | 20 | 88.9 | 1.80 | 6.5 | 31 ms |" in text
    assert "| concurrent streams (`stream` in threads) | 8 | 32.0 | 2.10 (2.75) | 7.9 |  |" in text


def test_results_are_kept_after_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "timed", fail)
    run("bench", "speed", "--quick", "--out", str(tmp_path), code=130)
    result = json.loads((tmp_path / "result.json").read_text())
    assert {row["name"]: row["median"] for row in result["timings"]}[speed.PLAIN] == 4.0
    assert result["embedded"] == []


def test_a_page_without_the_section_is_refused_before_the_work(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n")
    assert "no section 'speed'" in run("bench", "speed", "--page", str(page), "--out", str(tmp_path / "runs"), code=2)
    assert not (tmp_path / "runs").exists()
