"""Copies of what holds a model: the same model once more, or an independent one; none by pickling."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, ModelError
from saliency_guard.chat.messages import chat


def ask(picture: Image.Image) -> list[dict[str, Any]]:
    return chat(picture, "Describe the image in detail.")


def test_a_deep_copy_is_independent(picture: Image.Image) -> None:
    lvlm = LVLM.load().with_tools(
        [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    )
    before = lvlm.generate(ask(picture), max_new_tokens=6)
    other = copy.deepcopy(lvlm)
    assert other.model is not lvlm.model
    assert other.model_id == lvlm.model_id
    assert other.calibrator == lvlm.calibrator
    assert other.generate(ask(picture), max_new_tokens=6) == before
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.zero_()
    assert other.generate(ask(picture), max_new_tokens=6) != before
    assert lvlm.generate(ask(picture), max_new_tokens=6) == before


def test_a_deep_copy_of_a_model_that_another_thread_runs(picture: Image.Image) -> None:
    lvlm = LVLM.load().with_calibrator(None)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            lvlm.score(ask(picture), "A dog.")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        copies = [copy.deepcopy(lvlm).model for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    for model in copies:
        assert not [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]
        assert model.config.get_text_config()._attn_implementation != "saliency_guard"
        assert not [layer for layer in model.get_decoder().layers if "forward" in vars(layer)]


def test_a_copy_is_the_same_model(lvlm: LVLM, picture: Image.Image) -> None:
    other = copy.copy(lvlm)
    assert other is not lvlm
    assert other.model is lvlm.model
    assert other.generate(ask(picture), max_new_tokens=4) == lvlm.generate(ask(picture), max_new_tokens=4)
    bare = other.with_calibrator(None)
    assert (bare.calibrator, other.calibrator) == (None, lvlm.calibrator)


def test_a_model_is_not_pickled(lvlm: LVLM) -> None:
    for thing in (lvlm, lvlm.generate, [lvlm]):
        with pytest.raises(ModelError, match=r"cannot be pickled.*LVLM\.load"):
            pickle.dumps(thing)
