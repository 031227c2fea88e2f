"""Parts of the benchmark of speed: which there are, and that none is measured twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tiny

from saliency_guard import LVLM, ConfigError
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.speed import Timing
from saliency_guard.evaluation.speed_parts import TABLES, Part, PeakMemory, measure, scene_prompt, speed_parts

TIMING = Timing("with grounding", 640, 64, (1.5, 2.0), 1.25, 1.5)


def test_every_table_has_its_parts(lvlm: LVLM, llava: tiny.Case) -> None:
    parts = speed_parts(llava.model, lvlm, rounds=5)
    assert list(dict.fromkeys(part.table for part in parts)) == list(TABLES)
    assert len({part.name for part in parts}) == len(parts)
    quick = speed_parts(llava.model, lvlm, rounds=1, quick=True)
    assert {part.table for part in parts} - {part.table for part in quick} == {"embedded_lengths", "memory", "lengths"}
    chosen = speed_parts(llava.model, lvlm, rounds=1, tables=["memory", "calls"])
    assert [part.table for part in chosen] == ["floor", "answers", "calls", "memory"]
    with pytest.raises(ConfigError, match="there is no part 'call'"):
        speed_parts(llava.model, lvlm, rounds=1, tables=["call"])


def test_what_a_journal_has_is_not_measured_again(tmp_path: Path) -> None:
    measured: list[str] = []

    def part(table: str, name: str, row: object) -> Part:
        def rows(on_round: Callable[[], None]) -> Sequence[object]:
            measured.append(name)
            on_round()
            return [row]

        return Part(table, name, 1, rows)

    first = part("answers", "here", TIMING)
    rounds: list[None] = []
    measure([first], Journal(tmp_path / "parts.jsonl", {}), lambda: rounds.append(None))
    others = [part("memory", "memory", PeakMemory("with grounding", 1.2)), part("answers", "there", TIMING)]
    tables = measure([first, *others], Journal(tmp_path / "parts.jsonl", {}), lambda: rounds.append(None))
    assert measured == ["here", "memory", "there"]
    assert len(rounds) == 3
    assert tables.answers == (TIMING, TIMING)
    assert tables.memory == (PeakMemory("with grounding", 1.2),)
    assert tables.lengths == ()


def test_a_scene_s_prompt_can_be_made_longer(lvlm: LVLM) -> None:
    plain, longer = scene_prompt(lvlm), scene_prompt(lvlm, 200)
    assert longer["input_ids"].shape == longer["attention_mask"].shape == (1, 200)
    length = plain["input_ids"].shape[1]
    assert longer["input_ids"][0, : length - 5].tolist() == plain["input_ids"][0, : length - 5].tolist()
    assert longer["input_ids"][0, -5:].tolist() == plain["input_ids"][0, -5:].tolist()
