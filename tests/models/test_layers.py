"""What is known of a model does not keep it in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import tiny

from saliency_guard import LVLM, LocoREConfig, SGRSConfig, score_answer
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.decoder import Decoder
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
