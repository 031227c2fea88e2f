"""A model that would be scored wrongly is refused before anything of it runs, and the reason is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line
import families
import family_checks
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


def test_weights_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        case = tiny.build("llava-gqa")
    with pytest.raises(UnsupportedModelError, match="inference_mode"):
        score_answer(case.model, case.inputs, tiny.ANSWER)


@pytest.mark.filterwarnings("ignore")  # What torch says of its older ways to quantise.
def test_layers_that_quantise_what_goes_in_are_refused() -> None:
    case = tiny.build("llava-gqa")
    quantised = torch.ao.quantization.quantize_dynamic(case.model, {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(UnsupportedModelError, match="dynamically"):
        score_answer(quantised, case.inputs, tiny.ANSWER)


def test_layers_without_a_backward_pass_are_an_error_of_ours() -> None:
    case = tiny.build("llava-gqa")

    def cut(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output.detach()

    case.model.lm_head.register_forward_hook(cut)
    with pytest.raises(UnsupportedModelError, match="no gradient"):
        score_answer(case.model, case.inputs, tiny.ANSWER)


@pytest.mark.parametrize("name", ["llava-next", "idefics3", "mistral3", "qwen2.5-vl"])
def test_a_configuration_that_wants_tuples_changes_nothing(name: str) -> None:
    case = families.build(name)
    plain = score_answer(case.model, case.inputs, tiny.ANSWER)
    configs = {id(m.config): m.config for m in case.model.modules() if hasattr(m, "config")}
    for config in configs.values():
        config.return_dict = False
    again = score_answer(case.model, case.inputs, tiny.ANSWER)
    assert torch.equal(again.saliency[1:], plain.saliency[1:])
    assert not any(config.return_dict for config in configs.values())


def test_pictures_without_positions_of_their_own_are_refused() -> None:
    case = families.build("qwen2.5-vl")
    text = {"input_ids": torch.tensor([[1, 5, 7, 9, 10]])}
    pictures = {name: case.inputs[name] for name in ("pixel_values", "image_grid_thw")}
    with pytest.raises(UnsupportedModelError, match="none is found"):
        score_answer(case.model, {**text, **pictures}, tiny.ANSWER)


QUICK = ["llava-gqa", "mllama-two", "gemma3n", "smolvlm", "phi4-multimodal"]
"""Of the families that `make families` looks at, those that differ most from each other. Their `custom_generate` is
asked in tests/decoding/test_custom_generate.py and test_attention.py."""


@pytest.mark.parametrize("check", ["pictures", "batches", "signals"])
@pytest.mark.parametrize("name", QUICK)
def test_families_hold_what_the_page_says(name: str, check: str) -> None:
    reason = families.limit(name, check)
    if reason is None:
        family_checks.CHECKS[check](name)
    else:
        with pytest.raises(UnsupportedModelError, match=reason):
            family_checks.CHECKS[check](name)


def test_the_page_has_a_row_for_every_family() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| ((?:yes|no).*) \|$", page, re.MULTILINE))
    assert list(rows) == list(families.NAMES.values())
    assert {len(row.split(" | ")) for row in rows.values()} == {len(family_checks.CHECKS)}
    for name, title in families.NAMES.items():
        said = [cell == "yes" for cell in rows[title].split(" | ")]
        assert said == [families.limit(name, check) is None for check in family_checks.CHECKS]


def test_as_many_patches_as_positions_are_still_patches() -> None:
    """LFM2-VL's mask of 16 patches beside a prompt of 16 positions, padded on the left."""
    case = tiny.build("lfm2-vl")
    before = 16 - case.inputs["input_ids"].shape[1] - 2
    longer = family_checks.prefixed(case, [1] * before)
    assert longer["input_ids"].shape[1] + 2 == longer["pixel_attention_mask"].shape[1] == 16
    plain = score_answer(case.model, longer, tiny.ANSWER)
    padded = dict(longer)
    for name in ("input_ids", "attention_mask"):
        padded[name] = torch.nn.functional.pad(longer[name], (2, 0))
    again = score_answer(case.model, padded, tiny.ANSWER)
    torch.testing.assert_close(again.saliency[1:], plain.saliency[1:], rtol=1e-5, atol=0)
