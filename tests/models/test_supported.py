"""A model that would be scored wrongly is refused before anything of it runs, and the reason is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line
import families
import pytest
import tiny
import torch
from transformers import Florence2Config, Florence2ForConditionalGeneration

from saliency_guard import LVLM, UnsupportedModelError, saliency_map, score_answer, sgrs_generate
from saliency_guard.cli.describe import describe_model
from saliency_guard.models.session import Session
from saliency_guard.models.supported import refusal
from saliency_guard.signals.trace import trace_answer

WAYS: dict[str, Callable[[tiny.Case], Any]] = {
    "score_answer": lambda case: score_answer(case.model, case.inputs, tiny.ANSWER),
    "saliency_map": lambda case: saliency_map(case.model, case.inputs, tiny.ANSWER, 1),
    "trace": lambda case: trace_answer(case.model, case.inputs, tiny.ANSWER),
    "session": lambda case: Session(case.model, case.inputs),
    "custom_generate": lambda case: case.model.generate(
        **case.inputs, custom_generate=sgrs_generate, max_new_tokens=2, pad_token_id=0
    ),
    "LVLM": lambda case: LVLM(case.model, None),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_cross_attention_is_refused_before_the_decoder_runs(way: str) -> None:
    case = families.build("idefics")
    runs: list[object] = []
    case.model.get_decoder().register_forward_pre_hook(lambda *_: runs.append(1))
    with pytest.raises(UnsupportedModelError, match="cross-attention"):
        WAYS[way](case)
    assert not runs


def test_it_is_refused_for_what_it_is_made_of_whatever_it_is_called() -> None:
    case = families.build("idefics")
    case.model.config.model_type = "another"
    with pytest.raises(UnsupportedModelError, match="cross-attention"):
        score_answer(case.model, case.inputs, tiny.ANSWER)


def test_cross_attention_between_the_layers_is_refused() -> None:
    case = families.build("idefics")
    with pytest.raises(UnsupportedModelError, match="cross-attention"):
        score_answer(case.model, case.inputs, tiny.ANSWER)


@pytest.mark.parametrize("name", ["kosmos2", "blip2"])
def test_a_model_that_wants_its_picture_at_every_step_is_refused(name: str) -> None:
    case = families.build(name)
    with pytest.raises(UnsupportedModelError, match="every step"):
        score_answer(case.model, case.inputs, tiny.ANSWER)


def test_encoder_and_decoder_are_refused() -> None:
    with torch.device("meta"):
        model = Florence2ForConditionalGeneration(Florence2Config())
    assert "encoder and a decoder" in str(refusal(model))


def test_info_says_so(tmp_path: Path) -> None:
    families.build("idefics").model.config.save_pretrained(tmp_path)
    facts = describe_model(str(tmp_path))
    assert not any(facts[way] for way in ("saliency", "locore", "sgrs", "drafting"))
    assert "cross-attention" in facts["not supported"]
    assert "cross-attention" in json.loads(command_line.run("info", str(tmp_path), "--json"))["not supported"]
    families.build("paligemma").model.config.save_pretrained(tmp_path)
    assert "not supported" not in describe_model(str(tmp_path))
