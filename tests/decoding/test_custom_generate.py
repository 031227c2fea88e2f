"""`sgrs_generate` inside ``model.generate`` reads what `generate` prepared: encoded pictures, counted positions."""

from __future__ import annotations

from typing import Any

import families
import oracle
import pytest
import tiny
import torch
from torch.nn import functional
from transformers import LogitsProcessor, LogitsProcessorList

from saliency_guard import InputError, LocoREConfig, SaliencyConfig, SGRSConfig, score_answer, sgrs_generate
from saliency_guard.decoding.custom_generate import SGRSOutput
from saliency_guard.models.layers import attention_layers, target_layers

LENGTH = 8
ENCODED = {**families.SCORED, **families.GENERATED}


class OnlyText(LogitsProcessor):
    """A random model may write image placeholders; a whole-sequence oracle cannot read them back."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[..., tiny.IMAGE :] = -torch.inf
        return scores


def build(name: str) -> tiny.Case:
    if name in ENCODED:
        return families.build(name)
    return tiny.to(tiny.build(name), torch.float64)


def written(case: tiny.Case, **settings: Any) -> Any:
    return case.model.generate(
        **case.inputs,
        max_new_tokens=LENGTH,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([OnlyText()]),
        **settings,
    )


def guarded(case: tiny.Case, **settings: Any) -> SGRSOutput:
    settings.setdefault("sgrs", None)
    return written(case, custom_generate=sgrs_generate, return_dict_in_generate=True, **settings)


@pytest.mark.parametrize("name", [*ENCODED, "llava-gqa", "gemma3", "internvl", *tiny.RECURRENT])
def test_what_is_written_is_transformers_own_and_its_scores_are_brute_force(name: str) -> None:
    case = build(name)
    prompt = case.inputs["input_ids"].shape[1]
    out = guarded(case)
    assert out.sequences.tolist() == written(case).tolist()
    answer = out.sequences[0, prompt:].tolist()
    every = attention_layers(case.model)
    layers = [every.index(layer) for layer in target_layers(case.model, SaliencyConfig().layers)]
    found, logprobs, _ = oracle.saliency(case.model, case.inputs, answer, layers=layers, start=prompt)
    torch.testing.assert_close(out.saliency[0, 1:].double(), found[1:], rtol=1e-4, atol=0)
    ours = torch.tensor([token.logprob for token in out.tokens], dtype=torch.float64)
    torch.testing.assert_close(ours, logprobs, rtol=1e-4, atol=2e-5)
    if name in families.GENERATED:
        return
    scored = score_answer(case.model, case.inputs, answer)
    torch.testing.assert_close(out.saliency[0, 1:], scored.saliency[1:].float(), rtol=1e-4, atol=0)
    for source, share in scored.shares.items():
        ours = torch.tensor([token.shares[source] for token in out.tokens])
        torch.testing.assert_close(ours, share.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*families.MULTIMODAL_ROTARY, *families.PREFIXED, "qwen3.5"])
def test_sgrs_and_locore_are_scored_as_score_answer_does(name: str) -> None:
    case = build(name)
    locore = LocoREConfig(beta=0.3, window=4)
    out = guarded(case, sgrs=SGRSConfig(alpha=0.95), locore=locore)
    answer = [token.token_id for token in out.tokens]
    scored = score_answer(case.model, case.inputs, answer, locore=locore)
    torch.testing.assert_close(out.saliency[0, 1:], scored.saliency[1:].float(), rtol=1e-4, atol=0)
    for position, token in enumerate(out.tokens):
        for rejected in token.rejected:
            instead = score_answer(case.model, case.inputs, [*answer[:position], rejected.token_id], locore=locore)
            assert rejected.saliency == pytest.approx(float(instead.saliency[-1]), rel=1e-4)


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen3-vl", "paligemma", "paligemma2", "llava-gqa"])
def test_a_padded_prompt_is_continued_like_the_plain_one(name: str) -> None:
    case = build(name)
    plain = guarded(case)
    ids = case.inputs["input_ids"]
    padded = {
        key: functional.pad(value, (3, 0)) if value.shape == ids.shape else value for key, value in case.inputs.items()
    }
    again = guarded(tiny.Case(case.model, padded))
    assert again.sequences[0, 3:].tolist() == plain.sequences[0].tolist()
    torch.testing.assert_close(again.saliency, plain.saliency, rtol=1e-5, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["qwen2-vl", "vipllava", "llava-gqa"])
def test_pictures_that_touch_are_told_apart_as_score_answer_tells_them(name: str) -> None:
    case = build(name)
    ids = case.inputs["input_ids"]
    pictures = ids[ids == tiny.IMAGE]
    ids = torch.cat([torch.tensor([1, 5]), pictures, torch.tensor([9, 10])])[None]
    inputs = {**case.inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "mm_token_type_ids" in inputs:
        # A group of picture tokens is one picture to the model, unless their kinds part them.
        inputs["mm_token_type_ids"] = (ids == tiny.IMAGE).long()
        inputs["image_grid_thw"] = torch.tensor([[1, 4, 6]])
    touching = tiny.Case(case.model, inputs)
    out = guarded(touching)
    scored = score_answer(case.model, inputs, [token.token_id for token in out.tokens])
    assert list(out.tokens[0].shares) == list(scored.shares)
    torch.testing.assert_close(out.saliency[0, 1:], scored.saliency[1:].float(), rtol=1e-4, atol=0)


def test_the_callers_own_positions_are_continued() -> None:
    """Rotary attention knows distances only: moved on by five, everything is the same."""
    case = families.build("qwen2.5-vl")
    plain = guarded(case)
    own, _ = case.model.model.get_rope_index(**{k: v for k, v in case.inputs.items() if k != "pixel_values"})
    moved = guarded(tiny.Case(case.model, {**case.inputs, "position_ids": own + 5}))
    assert moved.sequences.tolist() == plain.sequences.tolist()
    torch.testing.assert_close(moved.saliency, plain.saliency, rtol=1e-4, atol=0, equal_nan=True)


def test_embeddings_in_place_of_tokens_are_refused() -> None:
    """BLIP-2 makes them of its own."""
    case = families.build("blip2")
    with pytest.raises(InputError, match="embeddings"):
        guarded(case)


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl", "qwen3.5"])
def test_a_video_is_one_source_whether_its_frames_touch_or_not(name: str) -> None:
    case = build(name)
    frames = [families.VIDEO] * 4
    parted = name in {"qwen3-vl", "qwen3.5"}  # There timestamps stand between the frames.
    ids = tiny._ids(1, 5, 92, frames, *([93, 7, 92] if parted else []), frames, 93, 9, 10)
    pixels = tiny._pixels(32, case.inputs["pixel_values"].shape[1]).to(case.model.dtype)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == families.VIDEO).long() * 2,
        "pixel_values_videos": pixels,
        "video_grid_thw": torch.tensor([[2, 4, 4]]),
    }
    out = guarded(tiny.Case(case.model, inputs))
    answer = [token.token_id for token in out.tokens]
    scored = score_answer(case.model, inputs, answer)
    every = attention_layers(case.model)
    layers = [every.index(layer) for layer in target_layers(case.model, SaliencyConfig().layers)]
    saliency, _, rows = oracle.saliency(case.model, inputs, answer, layers=layers, start=ids.shape[1])
    wanted = rows[:, : ids.shape[1]][:, ids[0] == families.VIDEO].sum(-1) / rows.sum(-1)
    torch.testing.assert_close(scored.saliency[1:].double(), saliency[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scored.shares["video_0"].double(), wanted, rtol=1e-4, atol=1e-6)
    assert list(out.tokens[0].shares) == list(scored.shares) == ["video_0", "text", "output"]
    ours = torch.tensor([token.shares["video_0"] for token in out.tokens], dtype=torch.float64)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)
