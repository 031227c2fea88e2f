from __future__ import annotations

import pytest
import tiny
from torch import nn

from saliency_guard.models.memory import GIB, memory_of
from saliency_guard.saliency.scoring import SCORED_TOGETHER


def test_memory_is_that_of_the_parts() -> None:
    case = tiny.build("llava-gqa")
    memory = memory_of(case.model, (0.5, 1.0))
    weights = dict(case.model.named_parameters())
    assert memory.parameters == sum(weight.numel() for weight in weights.values())
    assert memory.bfloat16 * GIB == 2 * memory.parameters
    linear = {
        name for name, module in case.model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"
    }
    small = sum(weights[f"{name}.weight"].numel() for name in linear)
    rest = memory.parameters - small
    assert memory.nf4 * GIB == pytest.approx(small / 2 + small / 64 * 4 + 2 * rest)
    assert memory.int8 * GIB == pytest.approx(small + 4 * sum(len(weights[f"{n}.weight"]) for n in linear) + 2 * rest)
    # Five layers, two heads of keys and values of eight numbers each; three target layers of four heads.
    assert memory.cache * GIB == pytest.approx(5 * 2 * 2 * 8 * 1000 * 2)
    assert memory.attention * GIB == pytest.approx(3 * 4 * (SCORED_TOGETHER + 1) * 1000 * 4)


def test_where_pictures_are_seen_across_only_the_other_layers_keep_positions() -> None:
    import families

    memory = memory_of(families.build("mllama").model, None)
    assert memory.cache * GIB == pytest.approx(3 * 2 * 2 * 8 * 1000 * 2)
