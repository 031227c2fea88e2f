"""The options of writing an answer: one set for everything, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, ConfigError, DeadlineError
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.options import DEFAULTS, GenerationOptions, generation_plan, generation_plans
from saliency_guard.scenes.language import DESCRIBE


def test_every_option_has_a_default() -> None:
    assert set(DEFAULTS) == set(GenerationOptions.__annotations__)
    assert DEFAULTS["sgrs"] is None
    assert DEFAULTS["locore"] is None
    assert generation_plan({}).seed is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tempratur": 1.0}, "no option 'tempratur'"),
        ({"temperature": 1e-40}, "from 0.001 to"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "must be a number"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"seed": "x"}, "seed"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": "x"}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"logits_processor": [3]}, "logits_processor"),
        ({"max_new_tokens": True}, "max_new_tokens"),
    ],
)
def test_wrong_options_are_refused_by_name(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generation_plan(options)


def test_a_batch_has_one_seed_or_one_for_each() -> None:
    hot = {"temperature": 1.0}
    assert [plan.seed for plan in generation_plans({**hot, "seed": 3}, 2)] == [3, 3]
    assert [plan.seed for plan in generation_plans({**hot, "seed": [3, 4]}, 2)] == [3, 4]
    with pytest.raises(ConfigError, match="2 answers"):
        generation_plans({**hot, "seed": [3]}, 2)
    drawn = generation_plans(hot, 2)
    assert drawn[0].seed != drawn[1].seed


def test_sampling_options_do_what_they_do_in_transformers(lvlm: LVLM, picture: Image.Image) -> None:
    messages = chat(picture, DESCRIBE)
    greedy = lvlm.generate(messages, max_new_tokens=16)
    assert lvlm.generate(messages, max_new_tokens=16, temperature=1.0, top_k=1, seed=5).text == greedy.text
    inputs = lvlm.inputs(messages)
    length = inputs["input_ids"].shape[1]
    penalised = lvlm.model.generate(**inputs, max_new_tokens=16, do_sample=False, repetition_penalty=1.3)
    ours = lvlm.generate(messages, max_new_tokens=16, repetition_penalty=1.3)
    assert ours.text == lvlm.tokenizer.decode(penalised[0, length:], skip_special_tokens=True)


def test_a_logits_processor_is_called_once_per_position(lvlm: LVLM, picture: Image.Image) -> None:
    lengths: list[int] = []

    def forbid_the_first(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        lengths.append(input_ids.shape[1])
        scores[0, first] = -torch.inf
        return scores

    messages = chat(picture, DESCRIBE)
    first = lvlm.generate(messages, max_new_tokens=1).tokens[0].token_id
    answer = lvlm.generate(messages, max_new_tokens=8, logits_processor=forbid_the_first)
    assert first not in [token.token_id for token in answer.tokens]
    assert lengths == list(range(lengths[0], lengths[0] + len(lengths)))


def test_a_timeout_ends_the_call(lvlm: LVLM, picture: Image.Image) -> None:
    with pytest.raises(DeadlineError, match="timeout=1e-06"):
        lvlm.generate(chat(picture, DESCRIBE), timeout=1e-6)
    assert lvlm.generate(chat(picture, DESCRIBE), max_new_tokens=2, timeout=60.0).text
