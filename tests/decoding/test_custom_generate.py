"""`sgrs_generate` inside ``model.generate`` reads what `generate` prepared: encoded pictures, counted positions."""

from __future__ import annotations

import functools
from typing import Any

import families
import oracle
import pytest
import tiny
import torch
from torch.nn import functional
from transformers import (
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from saliency_guard import (
    ConfigError,
    InputError,
    LocoREConfig,
    SaliencyConfig,
    SGRSConfig,
    score_answer,
    sgrs_generate,
)
from saliency_guard.decoding.custom_generate import SGRSOutput
from saliency_guard.models.layers import attention_layers, target_layers

LENGTH = 6
WHOLE_LENGTH = 10
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
        max_new_tokens=settings.pop("max_new_tokens", LENGTH),
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([OnlyText()]),
        **settings,
    )


def guarded(case: tiny.Case, **settings: Any) -> SGRSOutput:
    settings.setdefault("sgrs", None)
    return written(case, custom_generate=sgrs_generate, return_dict_in_generate=True, **settings)


def assert_scores(out: SGRSOutput, saliency: torch.Tensor, logprobs: torch.Tensor) -> None:
    torch.testing.assert_close(out.saliency[0, 1:].double(), saliency[1:].double(), rtol=1e-4, atol=0)
    ours = torch.tensor([token.logprob for token in out.tokens], dtype=torch.float64)
    torch.testing.assert_close(ours, logprobs.double(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", list(families.GENERATED))
def test_what_is_written_is_transformers_own_and_its_scores_are_brute_force(name: str) -> None:
    case = build(name)
    prompt = case.inputs["input_ids"].shape[1]
    out = guarded(case)
    assert out.sequences.tolist() == written(case).tolist()
    every = attention_layers(case.model)
    layers = [every.index(layer) for layer in target_layers(case.model, SaliencyConfig().layers)]
    answer = out.sequences[0, prompt:].tolist()
    found, logprobs, _ = oracle.saliency(case.model, case.inputs, answer, layers=layers, start=prompt)
    assert_scores(out, found, logprobs)


@pytest.mark.parametrize("name", [*families.SCORED, "llava-gqa", "gemma3", "internvl", *tiny.RECURRENT])
def test_what_is_written_is_transformers_own_and_its_scores_are_those_of_score_answer(name: str) -> None:
    """Those are brute force: test_scoring.py, test_positions.py and test_session.py ask it about the same models."""
    case = build(name)
    out = guarded(case)
    assert out.sequences.tolist() == written(case).tolist()
    scored = score_answer(case.model, case.inputs, out.sequences[0, case.inputs["input_ids"].shape[1] :].tolist())
    assert_scores(out, scored.saliency, scored.logprobs)
    for source, share in scored.shares.items():
        ours = torch.tensor([token.shares[source] for token in out.tokens])
        torch.testing.assert_close(ours, share.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*families.MULTIMODAL_ROTARY, *families.PREFIXED, "qwen3.5"])
def test_sgrs_and_locore_are_scored_as_score_answer_does(name: str) -> None:
    case = build(name)
    locore = LocoREConfig(beta=0.3, window=2)
    # PaliGemma's first tokens are all taken.
    out = guarded(
        case, sgrs=SGRSConfig(alpha=0.95), locore=locore, max_new_tokens=16 if name == "paligemma" else LENGTH
    )
    answer = [token.token_id for token in out.tokens]
    scored = score_answer(case.model, case.inputs, answer, locore=locore)
    torch.testing.assert_close(out.saliency[0, 1:], scored.saliency[1:].float(), rtol=1e-4, atol=0)
    assert any(token.rejected for token in out.tokens)
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


class Streamer(BaseStreamer):
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.ids += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


def test_generate_honours_its_config(case: tiny.Case) -> None:
    prompt = case.inputs["input_ids"].shape[1]
    common = {"custom_generate": sgrs_generate, "sgrs": SGRSConfig(alpha=0.9), "max_new_tokens": WHOLE_LENGTH}
    free = case.model.generate(**case.inputs, **common, eos_token_id=None)
    assert free.shape == (1, prompt + WHOLE_LENGTH)
    eos = int(free[0, prompt + 4])
    first = free[0, prompt:].tolist().index(eos)
    stopped = case.model.generate(**case.inputs, **common, eos_token_id=eos)
    assert stopped.tolist() == free[:, : prompt + first + 1].tolist()
    longer = case.model.generate(**case.inputs, **common, eos_token_id=eos, min_new_tokens=WHOLE_LENGTH)
    assert longer.shape == (1, prompt + WHOLE_LENGTH)
    assert eos not in longer[0, prompt:]


def test_generate_takes_processors_criteria_and_a_streamer(case: tiny.Case) -> None:
    prompt = case.inputs["input_ids"].shape[1]

    class Only(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            keep = torch.full_like(scores, -torch.inf)
            keep[:, [20 + input_ids.shape[1] % 2, 40]] = scores[:, [20 + input_ids.shape[1] % 2, 40]]
            return keep

    class Three(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.tensor([input_ids.shape[1] >= prompt + 3])

    streamer = Streamer()
    out = case.model.generate(
        **case.inputs,
        custom_generate=sgrs_generate,
        sgrs=SGRSConfig(alpha=0.9),
        logits_processor=LogitsProcessorList([Only()]),
        stopping_criteria=StoppingCriteriaList([Three()]),
        streamer=streamer,
        max_new_tokens=WHOLE_LENGTH,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    assert out.sequences.shape == (1, prompt + 3)
    for index, token in enumerate(out.sequences[0, prompt:].tolist()):
        assert token in {20 + (prompt + index) % 2, 40}
    assert streamer.ids == out.sequences[0].tolist()
    assert streamer.ended
    assert len(out.scores) == len(out.logits) == len(out.tokens) == 3
    assert torch.isnan(out.saliency[0, 0])
    assert torch.isfinite(out.saliency[0, 1:]).all()
    assert torch.isfinite(out.logits[0]).all()


def test_generate_samples_with_torchs_seed(llava: tiny.Case) -> None:
    def run(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return llava.model.generate(
            **llava.inputs,
            custom_generate=sgrs_generate,
            do_sample=True,
            top_p=0.9,
            max_new_tokens=20,
            eos_token_id=None,
        )[0].tolist()

    assert run(1) == run(1) != run(2)


def test_generate_takes_a_partial(llava: tiny.Case) -> None:
    custom = functools.partial(sgrs_generate, sgrs=SGRSConfig(alpha=0.9), locore=LocoREConfig())
    out = llava.model.generate(**llava.inputs, custom_generate=custom, max_new_tokens=4, eos_token_id=None)
    assert out.shape[1] == llava.inputs["input_ids"].shape[1] + 4


def test_beams_are_refused(llava: tiny.Case) -> None:
    with pytest.raises(ConfigError, match="one sequence"):
        llava.model.generate(**llava.inputs, custom_generate=sgrs_generate, num_beams=2, max_new_tokens=3)


def test_max_length_criteria_of_transformers_counts_the_same(llava: tiny.Case) -> None:
    prompt = llava.inputs["input_ids"].shape[1]
    out = llava.model.generate(
        **llava.inputs,
        custom_generate=sgrs_generate,
        max_new_tokens=9,
        stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(prompt + 2)]),
        eos_token_id=None,
    )
    assert out.shape[1] == prompt + 2


def test_a_padded_prompt_changes_nothing(llava: tiny.Case) -> None:
    """Length-aware processors count from the prompt as `generate` knows it, padding included."""
    ids, mask = llava.inputs["input_ids"], llava.inputs["attention_mask"]
    padded = dict(
        llava.inputs,
        input_ids=torch.nn.functional.pad(ids, (7, 0)),
        attention_mask=torch.nn.functional.pad(mask, (7, 0)),
    )
    common = {"custom_generate": sgrs_generate, "max_new_tokens": 6, "eos_token_id": 2, "pad_token_id": 0}
    runs = [
        llava.model.generate(**inputs, **common, min_new_tokens=6, forced_eos_token_id=2)
        for inputs in (llava.inputs, padded)
    ]
    assert runs[0][0, ids.shape[1] :].tolist() == runs[1][0, ids.shape[1] + 7 :].tolist()
    assert runs[0][0, -1] == 2


def test_processors_with_a_state_are_not_asked_twice(llava: tiny.Case) -> None:
    def run(length: int) -> list[int]:
        class Count(LogitsProcessor):
            calls = 0

            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
                self.calls += 1
                return scores.roll(self.calls, -1)

        return llava.model.generate(
            **llava.inputs,
            custom_generate=sgrs_generate,
            sgrs=SGRSConfig(alpha=0.9, draft_length=length),
            logits_processor=LogitsProcessorList([Count()]),
            max_new_tokens=12,
            eos_token_id=None,
        )[0].tolist()

    assert run(1) == run(16)


def test_a_filled_cache_is_refused(llava: tiny.Case) -> None:
    cache = DynamicCache()
    llava.model(**llava.inputs, past_key_values=cache)
    with pytest.raises(ConfigError, match="whole prompt"):
        llava.model.generate(**llava.inputs, past_key_values=cache, custom_generate=sgrs_generate, max_new_tokens=3)


def test_sgrs_off_inside_generate_is_plain_decoding(llava: tiny.Case) -> None:
    plain = llava.model.generate(**llava.inputs, max_new_tokens=9, do_sample=False)
    out = llava.model.generate(
        **llava.inputs, custom_generate=sgrs_generate, sgrs=None, max_new_tokens=9, return_dict_in_generate=True
    )
    assert out.sequences.tolist() == plain.tolist()
    assert all(token.threshold is None for token in out.tokens)


def test_a_wrapped_callable_still_finds_the_streamer(llava: tiny.Case) -> None:
    def wrapped(*arguments: Any, **settings: Any) -> Any:
        return sgrs_generate(*arguments, **settings)

    streamer = Streamer()
    llava.model.generate(
        **llava.inputs,
        custom_generate=wrapped,
        streamer=streamer,
        max_new_tokens=3,
        eos_token_id=None,
    )
    assert len(streamer.ids) == llava.inputs["input_ids"].shape[1] + 3
    assert streamer.ended


def test_a_temperature_that_overflows_is_an_error_in_generate_too(llava: tiny.Case) -> None:
    with pytest.raises(ConfigError, match="a temperature that is too small"):
        llava.model.generate(
            **llava.inputs, custom_generate=sgrs_generate, do_sample=True, temperature=1e-40, max_new_tokens=3
        )
