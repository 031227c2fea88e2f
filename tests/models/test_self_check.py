"""A family that nobody has compared with brute force is compared with itself before it is scored."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny
import torch

from saliency_guard import UnsupportedModelError, score_answer, sgrs_generate
from saliency_guard.models.self_check import COMPARED


def unknown(name: str = "llava-gqa") -> tiny.Case:
    case = families.build(name)
    case.model.config.model_type = "another"
    return case


def test_the_families_that_were_compared_are_those_of_the_matrix() -> None:
    assert {families.build(name).model.config.model_type for name in families.NAMES} == COMPARED


@pytest.mark.parametrize("name", ["llava-gqa", "qwen2.5-vl", "gemma3", "qwen3.5", "mllama"])
def test_one_that_agrees_with_itself_is_scored(name: str) -> None:
    plain = families.build(name)
    case = unknown(name)
    passes: list[int] = []
    case.model.get_decoder().register_forward_pre_hook(lambda *_: passes.append(1))
    scores = [score_answer(case.model, case.inputs, tiny.ANSWER) for _ in range(2)]
    expected = score_answer(plain.model, plain.inputs, tiny.ANSWER)
    for score in scores:
        torch.testing.assert_close(score.saliency[1:], expected.saliency[1:], rtol=1e-5, atol=0)
    first = len(passes)
    score_answer(case.model, case.inputs, tiny.ANSWER)
    assert len(passes) - first < first - (len(passes) - first)  # Only the first prompt is read once more.


def skewed_positions(case: tiny.Case) -> None:
    """Counts otherwise after the prompt than while it reads it."""

    def move(_: Any, arguments: Any, named: dict[str, Any]) -> Any:
        cache = named.get("past_key_values")
        if cache is None or cache.get_seq_length() == 0:
            return None
        return arguments, {**named, "position_ids": named["position_ids"] + 7}

    case.model.get_decoder().register_forward_pre_hook(move, with_kwargs=True)


def attention_of_its_own_kind(case: tiny.Case) -> None:
    """Adds something to its scores that the attention interface does not carry."""
    for layer in case.model.get_decoder().layers:
        attention = layer.self_attn
        attention.scaling = attention.scaling * 1.0
        original = attention.forward

        def forward(*arguments: Any, original: Any = original, attention: Any = attention, **named: Any) -> Any:
            ours = attention.config._attn_implementation == "saliency_guard"
            output, weights = original(*arguments, **named)
            return (output if ours else output * 1.3), weights

        attention.forward = forward


@pytest.mark.parametrize("spoil", [skewed_positions, attention_of_its_own_kind])
def test_one_that_does_not_is_refused(spoil: Any) -> None:
    case = unknown()
    spoil(case)
    for _ in range(2):
        with pytest.raises(UnsupportedModelError, match="not handled"):
            score_answer(case.model, case.inputs, tiny.ANSWER)
    with pytest.raises(UnsupportedModelError, match="not handled"):
        case.model.generate(**case.inputs, custom_generate=sgrs_generate, max_new_tokens=2, pad_token_id=0)
