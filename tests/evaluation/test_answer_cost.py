"""Captions by every way: the same texts, timed in turns."""

from __future__ import annotations

import pytest

from saliency_guard import LVLM
from saliency_guard.evaluation.answer_cost import BASES, PLAIN, UNSCORED_BATCH, answer_costs


def test_every_way_writes_the_same_captions(lvlm: LVLM) -> None:
    rounds: list[None] = []
    costs = answer_costs(lvlm, 64, rounds=2, on_round=lambda: rounds.append(None))
    assert [cost.name for cost in costs] == list(BASES)
    assert len({cost.tokens for cost in costs}) == 1
    assert costs[0].tokens > 100
    assert len(rounds) == 2
    for cost in costs:
        assert len(cost.seconds) == 2
        assert cost.median == pytest.approx(sum(cost.seconds) / 2)
        assert cost.ratio > 0
    assert {cost.name: cost.ratio for cost in costs if cost.name in {PLAIN, UNSCORED_BATCH}} == {
        PLAIN: 1.0,
        UNSCORED_BATCH: 1.0,
    }
