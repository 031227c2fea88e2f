"""Which layers a choice names, and that what is known of a model does not keep it in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import tiny

from saliency_guard import LVLM, ConfigError, LocoREConfig, SGRSConfig, score_answer
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.layers import attention_layers, resolve_layers, target_layers
from saliency_guard.models.session import Session


def scored() -> Any:
    case = tiny.build("qwen2-vl")
    score_answer(case.model, case.inputs, tiny.ANSWER, locore=LocoREConfig())
    return case.model


def decoded() -> Any:
    case = tiny.build("llava-gqa")
    list(Decoder(Session(case.model, case.inputs), sgrs=SGRSConfig(alpha=0.9)).tokens(5))
    return case.model


def answered() -> Any:
    from PIL import Image

    lvlm = LVLM.load()
    lvlm.generate(chat(Image.new("RGB", (32, 32)), "What is it?"), max_new_tokens=2)
    return lvlm.model


@pytest.mark.parametrize("use", [scored, decoded, answered])
def test_a_model_that_nobody_holds_is_freed(use: Callable[[], Any]) -> None:
    left = weakref.ref(use())
    gc.collect()
    assert left() is None


@pytest.mark.parametrize(
    ("choice", "depth", "expected"),
    [
        ((0.5, 1.0), 32, list(range(16, 32))),
        ((0.5, 1.0), 5, [2, 3, 4]),
        ((0.0, 1.0), 4, [0, 1, 2, 3]),
        ((0.1, 0.3), 30, [3, 4, 5, 6, 7, 8]),
        ([6, 7, 8], 32, [6, 7, 8]),
        ([-1, 0], 4, [0, 3]),
        (None, 3, [0, 1, 2]),
    ],
)
def test_layers_are_resolved(choice: Any, depth: int, expected: list[int]) -> None:
    assert list(resolve_layers(choice, depth)) == expected


def test_layers_beyond_the_depth_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 3"):
        resolve_layers([4], 4)


def test_of_a_range_only_layers_that_attend_are_taken() -> None:
    model = tiny.build("lfm2-vl").model
    assert attention_layers(model) == (1, 3, 4)
    assert target_layers(model, (0.0, 1.0)) == (1, 3, 4)
    assert target_layers(model, [1]) == (1,)
    with pytest.raises(ConfigError, match=r"no layer with attention.*\[1, 3, 4\]"):
        target_layers(model, (0.0, 0.2))
