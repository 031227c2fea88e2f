"""Ways to run a model that its owner may have chosen: adapters, quantised weights, offloading, training, compilation.

Wherever the weights are those of the plain model, scores are those of brute force on it.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import oracle
import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LlavaForConditionalGeneration, LogitsProcessorList, StoppingCriteriaList
from transformers.cache_utils import QuantizedCache

from saliency_guard import ConfigError, LocoREConfig, SGRSConfig, score_answer, sgrs_generate
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.session import Session

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*deprecat", "ignore:_compile flag", "ignore:.*checkpointing", "ignore:flex_attention"
)

Scores = tuple[Tensor, Tensor]


def brute_force(model: Any, inputs: dict[str, Tensor], locore: dict[str, Any] | None = None) -> Scores:
    start = inputs["input_ids"].shape[1]
    scores, logprobs, _ = oracle.saliency(model, inputs, tiny.ANSWER, layers=[2, 3, 4], start=start, locore=locore)
    return scores, logprobs


def check(model: Any, inputs: dict[str, Tensor], plain: Scores, written: Sequence[int]) -> None:
    """Scores of brute force, twice (a pass may leave something behind), and the tokens that SGRS takes with LocoRE."""
    for _ in range(2):
        ours = score_answer(model, inputs, tiny.ANSWER)
        torch.testing.assert_close(ours.saliency[1:].double(), plain[0][1:], rtol=1e-4, atol=0)
        torch.testing.assert_close(ours.logprobs.double(), plain[1], rtol=1e-4, atol=1e-5)
        assert tokens(model, inputs) == written


def tokens(model: Any, inputs: dict[str, Tensor]) -> list[int]:
    decoder = Decoder(Session(model, inputs, locore=LocoREConfig()), sgrs=SGRSConfig(alpha=0.9))
    return [token.token_id for token in decoder.tokens(6)]


def trained(model: Any, _: Path) -> Any:
    return model.train()


def checkpointed(model: Any, _: Path) -> Any:
    model.gradient_checkpointing_enable()
    return model.train()


def wrapped_by_compile(model: Any, _: Path) -> Any:
    return torch.compile(model, backend="eager")


def flexible(model: Any, _: Path) -> Any:
    """Flex attention as it is written: to compile it takes half a minute and changes no number."""
    model.set_attn_implementation("flex_attention")
    forward = model.forward

    def uncompiled(*arguments: Any, **named: Any) -> Any:
        with torch.compiler.set_stance("force_eager"):
            return forward(*arguments, **named)

    model.forward = functools.wraps(forward)(uncompiled)
    return model


def offloaded_to_memory(model: Any, _: Path) -> Any:
    accelerate = pytest.importorskip("accelerate")
    return accelerate.cpu_offload(model, execution_device=torch.device("cpu"))


def offloaded_to_disk(model: Any, folder: Path) -> Any:
    accelerate = pytest.importorskip("accelerate")
    return accelerate.disk_offload(model, folder / "weights", execution_device=torch.device("cpu"))


def mapped_in_part(model: Any, folder: Path) -> Any:
    pytest.importorskip("accelerate")
    model.save_pretrained(folder / "model")
    names = [name for name, _ in model.named_children() if name != "model"]
    names += [f"model.{name}" for name, _ in model.model.named_children() if name != "language_model"]
    names += [f"model.language_model.{name}" for name, _ in model.get_decoder().named_children() if name != "layers"]
    places = dict.fromkeys(names, "cpu") | {f"model.language_model.layers.{n}": "cpu" for n in range(3)}
    places |= {f"model.language_model.layers.{n}": "disk" for n in (3, 4)}
    return LlavaForConditionalGeneration.from_pretrained(
        folder / "model", device_map=places, offload_folder=folder / "weights"
    )


SETUPS: list[Callable[[Any, Path], Any]] = [
    *[trained, checkpointed, wrapped_by_compile, flexible],
    *[offloaded_to_memory, offloaded_to_disk, mapped_in_part],
]


@pytest.mark.parametrize("setup", SETUPS)
def test_the_plain_model_in_another_setup(llava: tiny.Case, setup: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    plain, written = brute_force(llava.model, llava.inputs), tokens(llava.model, llava.inputs)
    check(setup(llava.model, tmp_path), llava.inputs, plain, written)


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_adapter(llava: tiny.Case, *, wrapped: bool) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    bare = tokens(llava.model, llava.inputs)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(copy.deepcopy(llava.model), config).eval()
    merged = copy.deepcopy(adapted).merge_and_unload().requires_grad_(requires_grad=True)
    plain, written = brute_force(merged, llava.inputs), tokens(merged, llava.inputs)
    assert written != bare
    if not wrapped:
        kept = {name.replace("base_model.model.", "", 1): value for name, value in adapted.state_dict().items()}
        llava.model.add_adapter(config)
        llava.model.load_state_dict(kept)
        adapted = llava.model
    check(adapted, llava.inputs, plain, written)
    assert {parameter.requires_grad for parameter in adapted.parameters()} == {True, False}


def test_weights_of_eight_bits(llava: tiny.Case) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(llava.model.get_decoder(), quantization.Int8WeightOnlyConfig())
    plain, written = brute_force(llava.model, llava.inputs), tokens(llava.model, llava.inputs)
    check(llava.model, llava.inputs, plain, written)


def swapped(module: nn.Module, make: Callable[[nn.Linear], nn.Linear]) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, make(child))
        else:
            swapped(child, make)


def wide() -> tiny.Case:
    """A block of weights with a scale of its own is 64 wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "_TEXT", {**tiny._TEXT, "hidden_size": 128, "intermediate_size": 128})
        return tiny.build("llava-gqa")


def test_weights_of_four_bits() -> None:
    modules = pytest.importorskip("bitsandbytes").nn
    case = wide()

    def make(linear: nn.Linear) -> Any:
        layer = modules.Linear4bit(
            linear.in_features, linear.out_features, bias=False, quant_type="nf4", compute_dtype=torch.float32
        )
        # On CPUs with AVX512-BF16 it packs weights anew for inference alone, and no gradient goes through those.
        layer.support_avx512bf16_for_cpu = False
        layer.weight = modules.Params4bit(linear.weight.data.clone(), requires_grad=False, quant_type="nf4")
        return layer

    swapped(case.model.get_decoder(), make)
    case.model.to("cpu")  # Weights are quantised as they are moved.
    assert case.model.get_decoder().layers[0].mlp.up_proj.weight.dtype == torch.uint8
    plain, written = brute_force(case.model, case.inputs), tokens(case.model, case.inputs)
    check(case.model, case.inputs, plain, written)


def test_bitsandbytes_of_eight_bits_rounds_what_goes_in_too(llava: tiny.Case) -> None:
    """What is rounded jumps with the last digits of what goes in, so that brute force comes as close as that."""
    modules = pytest.importorskip("bitsandbytes").nn

    def make(linear: nn.Linear) -> Any:
        layer = modules.Linear8bitLt(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False)
        layer.weight = modules.Int8Params(linear.weight.data.clone(), requires_grad=False, has_fp16_weights=False)
        return layer

    swapped(llava.model.get_decoder(), make)
    llava.model.to("cpu")
    saliency, logprobs = brute_force(llava.model, llava.inputs)
    ours = score_answer(llava.model, llava.inputs, tiny.ANSWER)
    torch.testing.assert_close(ours.saliency[1:].double(), saliency[1:], rtol=0.05, atol=0)
    torch.testing.assert_close(ours.logprobs.double(), logprobs, rtol=0.05, atol=0.05)


def test_generation_configs_mean_what_they_mean_in_transformers(case: tiny.Case) -> None:
    prompt = case.inputs["input_ids"].shape[1]
    free = case.model.generate(**case.inputs, max_new_tokens=8, do_sample=False, eos_token_id=None)[0, prompt:].tolist()
    settings: list[dict[str, Any]] = [
        {"repetition_penalty": 1.8},
        {"eos_token_id": [free[5], free[3]]},
        {"forced_eos_token_id": 7, "eos_token_id": 7},
        {"bad_words_ids": [[free[0]]], "no_repeat_ngram_size": 2},
        {"suppress_tokens": [free[0]], "begin_suppress_tokens": [free[1]]},
    ]
    for setting in settings:
        common = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **setting}
        plain = case.model.generate(**case.inputs, **common)
        ours = case.model.generate(**case.inputs, **common, custom_generate=sgrs_generate, sgrs=None)
        assert ours.tolist() == plain.tolist(), setting


@pytest.mark.parametrize("named", [True, False])
def test_a_quantised_cache_is_refused_by_name(llava: tiny.Case, *, named: bool) -> None:
    cache = QuantizedCache.__new__(QuantizedCache)  # Its makers want a package of their own.
    cache.layers, cache.layer_class_to_replicate = [], None
    given = {} if named else {"past_key_values": cache}
    config = GenerationConfig(
        cache_implementation="quantized" if named else None, max_length=20, num_beams=1, num_return_sequences=1
    )
    with pytest.raises(ConfigError, match="leave the quantised cache"):
        sgrs_generate(
            llava.model, llava.inputs["input_ids"], LogitsProcessorList(), StoppingCriteriaList(), config, **given
        )
