"""Models that many people run: their shapes, as their public configurations have them, and what memory they take.

``python -m saliency_guard.evaluation.popular`` prints the table of docs/models.md. The numbers were typed from the
configurations on the hub; `saliency-guard info MODEL` reads the configuration itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import transformers as hf

from saliency_guard.evaluation.evidence import table
from saliency_guard.models.memory import Memory, memory_of
from saliency_guard.saliency.config import SaliencyConfig

_SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}


def _llava() -> Any:
    return hf.LlavaConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": 32064,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
    )


def _llava_onevision() -> Any:
    return hf.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", "vocab_size": 152000, **_QWEN2_7B},
        vision_config={**_SIGLIP, "num_hidden_layers": 26, "image_size": 384, "vision_use_head": False},
    )


def _qwen2_5_vl(text: Mapping[str, Any]) -> Any:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return hf.Qwen2_5_VLConfig(
        text_config={"rope_parameters": rope, **text},
        vision_config={"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420}
        | {"out_hidden_size": text["hidden_size"]},
        tie_word_embeddings=text["hidden_size"] == 2048,
    )


def _qwen2_5_vl_3b() -> Any:
    return _qwen2_5_vl(
        {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
        }
    )


def _qwen2_5_vl_7b() -> Any:
    return _qwen2_5_vl({"vocab_size": 152064, **_QWEN2_7B})


def _qwen3_vl() -> Any:
    return hf.Qwen3VLConfig(
        text_config={
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        vision_config={
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "patch_size": 16,
            "out_hidden_size": 4096,
            "deepstack_visual_indexes": [8, 16, 24],
            "num_position_embeddings": 2304,
        },
    )


def _internvl() -> Any:
    return hf.InternVLConfig(
        text_config={"model_type": "qwen2", "vocab_size": 151674, **_QWEN2_7B},
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": [448, 448],
            "patch_size": [14, 14],
        },
        tie_word_embeddings=False,
    )


def _gemma3() -> Any:
    return hf.Gemma3Config(
        text_config={
            "vocab_size": 262208,
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
        },
        vision_config={**_SIGLIP, "image_size": 896, "vision_use_head": False},
    )


def _smolvlm() -> Any:
    return hf.SmolVLMConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": 49280,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
        },
        vision_config={**_SIGLIP, "model_type": "smolvlm_vision", "image_size": 384},
        scale_factor=3,
        tie_word_embeddings=False,
    )


def _pixtral() -> Any:
    return hf.LlavaConfig(
        text_config={
            "model_type": "mistral",
            "vocab_size": 131072,
            "hidden_size": 5120,
            "intermediate_size": 14336,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "head_dim": 64,
            "image_size": 1024,
            "patch_size": 16,
        },
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )


def _mllama() -> Any:
    return hf.MllamaConfig(
        text_config={
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
        },
        vision_config={
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_global_layers": 8,
            "attention_heads": 16,
            "vision_output_dim": 7680,
            "image_size": 560,
            "patch_size": 14,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [3, 7, 15, 23, 30],
        },
    )


POPULAR: MappingProxyType[str, Callable[[], Any]] = MappingProxyType(
    {
        "llava-hf/llava-1.5-7b-hf": _llava,
        "llava-hf/llava-onevision-qwen2-7b-ov-hf": _llava_onevision,
        "Qwen/Qwen2.5-VL-3B-Instruct": _qwen2_5_vl_3b,
        "Qwen/Qwen2.5-VL-7B-Instruct": _qwen2_5_vl_7b,
        "Qwen/Qwen3-VL-8B-Instruct": _qwen3_vl,
        "OpenGVLab/InternVL3-8B-hf": _internvl,
        "google/gemma-3-4b-it": _gemma3,
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct": _smolvlm,
        "mistral-community/pixtral-12b": _pixtral,
        "meta-llama/Llama-3.2-11B-Vision-Instruct": _mllama,
    }
)
"""The configuration of each, by its name on the hub."""


def popular_memory(name: str) -> Memory:
    """What one of `POPULAR` takes."""
    config = POPULAR[name]()
    with torch.device("meta"):
        return memory_of(hf.AutoModelForImageTextToText.from_config(config), SaliencyConfig().layers)


def memory_row(name: str, memory: Memory) -> list[str]:
    """A line of the table."""
    weights = [f"{value:.1f}" for value in (memory.bfloat16, memory.int8, memory.nf4)]
    return [f"`{name}`", f"{memory.parameters / 1e9:.2f} B", *weights, f"{memory.cache:.3f}", f"{memory.attention:.2f}"]


def memory_table() -> str:
    """What all of `POPULAR` take."""
    columns = ["Model", "parameters", "bfloat16", "int8", "nf4", "cache, 1,000 positions", "scoring, 1,000 positions"]
    return table(columns, [memory_row(name, popular_memory(name)) for name in POPULAR])


if __name__ == "__main__":
    print(memory_table())
