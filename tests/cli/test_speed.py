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
from saliency_guard.evaluation import answer_cost, concurrency, machine, random_llava, speed, speed_parts

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

    def prompt(_: Any, length: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.ones(1, length, dtype=torch.long)}

    calls = concurrency.Concurrency(concurrency.CONCURRENT, 20, 400, (4.0, 5.0), 1.8, rows=6.5, gap=0.0314)
    streams = concurrency.Concurrency(concurrency.STREAMS, 8, 1024, (32.0, 32.0), 2.1, writing=2.75, rows=7.9)
    caption = answer_cost.AnswerCost(answer_cost.GROUNDED, 200, (3.0, 5.0), 1.6)
    monkeypatch.setattr(speed_parts, "answer_costs", lambda *_, **__: [caption])
    monkeypatch.setattr(concurrency, "concurrent_calls", lambda *_, **__: [calls])
    monkeypatch.setattr(concurrency, "concurrent_streams", lambda *_, **__: [streams])
    monkeypatch.setattr(random_llava, "random_llava", lambda: lvlm.model)
    monkeypatch.setattr(speed_parts, "llava_prompt", prompt)
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


def test_a_run_that_was_stopped_goes_on_with_the_part_that_it_was_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(machine, "timed", stopped)
        run("bench", "speed", "--quick", "--out", str(tmp_path), code=130)
    with monkeypatch.context() as patched:
        patched.setattr(machine, "floor", stopped)  # Measured before, and not again.
        assert "(rounds)" in run("bench", "speed", "--quick", "--rounds", "2", "--out", str(tmp_path), code=2)
        text = run("bench", "speed", "--quick", "--out", str(tmp_path))
    assert "loss.backward(), 640 positions | 9.60 |" in text
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert {row["name"]: row["seconds"] for row in result["answers"]}[speed.PLAIN] == [4.0]
    run("bench", "speed", "--quick", "--rounds", "2", "--out", str(tmp_path))  # Ended, it measures everything anew.
    result = json.loads((tmp_path / "result.json").read_text())
    assert {row["name"]: row["seconds"] for row in result["answers"]}[speed.PLAIN] == [4.0, 4.0]


def test_parts_can_be_chosen(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n<!-- begin speed -->\n<!-- end speed -->\n")
    options = ("--part", "streams", "--rounds", "1", "--page", str(page), "--out", str(tmp_path))
    run("bench", "speed", *options)
    text = page.read_text()
    assert "saliency-guard bench speed --rounds 1 --part streams" in text
    assert "| with grounding | 6.00 |" in text
    assert "| concurrent streams" in text
    assert "embedded" not in text
    assert ".png" not in text
    refused = run("bench", "speed", "--part", "stream", "--out", str(tmp_path / "other"), code=2)
    assert "there is no part 'stream': choose from floor, answers," in refused


def test_a_page_without_the_section_is_refused_before_the_work(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n")
    assert "no section 'speed'" in run("bench", "speed", "--page", str(page), "--out", str(tmp_path / "runs"), code=2)
    assert not (tmp_path / "runs").exists()
