from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import tiny
import tiny_processors

from saliency_guard import LVLM, ConfigError
from saliency_guard.chat.messages import chat
from saliency_guard.errors import MissingExtraError
from saliency_guard.models.quantized import quantized


def test_a_model_is_loaded_with_small_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    monkeypatch.setitem(tiny._TEXT, "vocab_size", 512)
    plain = tiny_processors.llava(tiny_processors.byte_level())
    plain.model.save_pretrained(tmp_path)
    plain.processor.save_pretrained(tmp_path)
    messages = chat(tiny_processors.picture(), "Is there a cat?")
    small = LVLM.load(tmp_path, **quantized("int8"))
    assert small.model.get_decoder().layers[0].mlp.up_proj.weight.element_size() == 1
    before, after = (lvlm.score(messages, "Yes, there is a cat.") for lvlm in (plain, small))
    assert [token.token_id for token in before.tokens] == [token.token_id for token in after.tokens]
    assert [token.logprob for token in after.tokens] == pytest.approx(
        [token.logprob for token in before.tokens], abs=0.1
    )
    assert all(token.saliency is not None for token in after.tokens[1:])


def test_nothing_is_the_default() -> None:
    assert quantized(None) == {}


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match="int8 or nf4, not as 'int2'"):
        quantized("int2")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("saliency_guard.errors.find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(MissingExtraError, match="quantized"):
        quantized("nf4")
