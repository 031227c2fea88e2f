"""Runs that are interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from saliency_guard import InputError
from saliency_guard.evaluation.journal import Journal


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.jsonl"
    settings = {"model": "m", "sgrs": None}
    first = Journal(path, settings)
    odd = "a dög\u2028and\x85more"
    first.add("1", odd)
    first.add("2", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + "ö".encode()[:1])  # Cut off within the last line, within a character.
    second = Journal(path, settings)
    assert second.results == {"1": odd}
    second.add("2", "b")
    assert path.read_bytes() == whole


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Journal(path, {"model": "m", "sgrs": None})
    with pytest.raises(InputError, match=r"other settings \(model, sgrs\)"):
        Journal(path, {"model": "n", "sgrs": {"alpha": 0.6}})
    for broken in (
        "something else\n",
        '{"settings": null}\n',
        '{"settings": {}}\n{"key": "1"}\n',
        '{"settings": {}}\n{"key": "1", "text": 5}\n',
    ):
        path.write_text(broken)
        with pytest.raises(InputError, match="not a journal"):
            Journal(path, {})


def test_a_run_that_stopped_at_once_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"settin')
    assert Journal(path, {"model": "m"}).results == {}
    assert Journal(path, {"model": "m"}).results == {}
