"""The engine of this process."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from saliency_guard import LVLM
from saliency_guard.engines.engine import LocalEngine, engine_of


def lengths(lvlm: LVLM, items: Sequence[str]) -> list[tuple[str, int]]:
    return [(lvlm.model_id, len(item)) for item in items]


def test_batches_come_out_in_order_with_a_result_for_each_item(lvlm: LVLM) -> None:
    with LocalEngine(lvlm) as engine:
        done = list(engine.map(lengths, [["a", "bb"], [], ["ccc"]]))
    name = lvlm.model_id
    assert done == [(0, [(name, 1), (name, 2)]), (1, []), (2, [(name, 3)])]


def test_the_model_is_loaded_once_and_only_when_it_is_needed(lvlm: LVLM) -> None:
    loads: list[None] = []

    def load() -> LVLM:
        loads.append(None)
        return lvlm

    engine = LocalEngine(load)
    assert loads == []
    with engine:
        assert engine.ask_worker(lambda loaded: loaded.model_id) == lvlm.model_id
        assert engine.lvlm is lvlm
    assert loads == [None]


def test_an_error_of_the_work_is_raised(lvlm: LVLM) -> None:
    def fail(_: LVLM, __: Sequence[int]) -> list[int]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(LocalEngine(lvlm).map(fail, [[1]]))


def test_a_loaded_model_is_an_engine_of_its_own(lvlm: LVLM) -> None:
    engine = LocalEngine(lvlm)
    assert engine_of(engine) is engine
    made = engine_of(lvlm)
    assert isinstance(made, LocalEngine)
    assert made.lvlm is lvlm
