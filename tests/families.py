"""Tiny random models of the families people run, each with one prompt: what makes them differ is in them.

Multimodal rotary positions, positions that start at one, prefixes that look both ways, tiles, rows and
windows: a family whose positions or masks were handled like another's would be scored wrongly.
"""

from __future__ import annotations

from collections.abc import Callable

import families_across as across
import families_gemma as gemma
import families_odd as odd
import families_rotary as rotary
import families_tiled as tiled
import tiny
import torch
from family_parts import VIDEO
from tiny import IMAGE, Case

__all__ = [
    "ACROSS",
    "GENERATED",
    "MULTIMODAL_ROTARY",
    "OTHERS",
    "PREFIXED",
    "REFUSED",
    "SCORED",
    "VIDEO",
    "build",
    "picture_positions",
]

MULTIMODAL_ROTARY: dict[str, Callable[[], Case]] = {
    "qwen2-vl": tiny.BUILDERS["qwen2-vl"],
    "qwen2.5-vl": rotary.qwen2_5_vl,
    "qwen3-vl": rotary.qwen3_vl,
    "qwen3-vl-moe": rotary.qwen3_vl_moe,
    "glm4v": rotary.glm4v,
    "glm4.6v": rotary.glm46v,
    "glm-ocr": rotary.glm_ocr,
    "ernie4.5-vl": rotary.ernie4_5_vl,
    "paddleocr-vl": rotary.paddleocr_vl,
    "hunyuan-vl": rotary.hunyuan_vl,
}
"""Positions have three rows or four, and a picture takes fewer of them than tokens."""

PREFIXED: dict[str, Callable[[], Case]] = {"paligemma": gemma.paligemma_1, "paligemma2": gemma.paligemma_2}
"""The prompt looks both ways, and is counted from one."""

OTHERS: dict[str, Callable[[], Case]] = {
    "llava-next": tiled.llava_next,
    "llava-onevision": tiled.llava_onevision,
    "vipllava": tiled.vipllava,
    "pixtral": tiled.pixtral,
    "mistral3": tiled.mistral3,
    "idefics2": tiled.idefics2,
    "idefics3": tiled.idefics3,
    "smolvlm": tiled.smolvlm,
    "aya-vision": tiled.aya_vision,
    "cohere2-vision": tiled.cohere2_vision,
    "lighton-ocr": tiled.lighton_ocr,
    "got-ocr2": tiled.got_ocr2,
    "ovis2": tiled.ovis2,
    "janus": tiled.janus,
    "deepseek-vl": tiled.deepseek_vl,
    "kosmos2.5": odd.kosmos2_5,
    "gemma3n": gemma.gemma3n,
    "gemma4": gemma.gemma4,
    "fuyu": odd.fuyu,
    "phi4-multimodal": odd.phi4_multimodal,
    "llama4": odd.llama4,
    "molmo2": odd.molmo2,
    "chameleon": odd.chameleon,
}

SCORED = {**MULTIMODAL_ROTARY, **PREFIXED, **OTHERS}

GENERATED = {"kosmos2": odd.kosmos2}
"""Cannot be continued from outside its own `generate`."""

ACROSS = {"mllama": across.mllama, "mllama-two": across.mllama_two}
"""Some layers look at pictures alone, the others at the text alone."""

REFUSED = {"idefics": across.idefics, "blip2": across.blip2}


NAMES: dict[str, str] = {
    "llava-mha": "LLaVA 1.5",
    "llava-gqa": "LLaVA 1.5 with grouped queries",
    "llava-next": "LLaVA-NeXT",
    "llava-onevision": "LLaVA-OneVision",
    "vipllava": "ViP-LLaVA",
    "qwen2-vl": "Qwen2-VL",
    "qwen2.5-vl": "Qwen2.5-VL",
    "qwen3-vl": "Qwen3-VL",
    "qwen3-vl-moe": "Qwen3-VL MoE",
    "qwen3.5": "Qwen3.5",
    "internvl": "InternVL",
    "gemma3": "Gemma 3",
    "gemma3n": "Gemma 3n",
    "gemma4": "Gemma 4",
    "paligemma": "PaliGemma",
    "paligemma2": "PaliGemma 2",
    "mllama": "Llama 3.2 Vision",
    "mllama-two": "Llama 3.2 Vision, tiles",
    "llama4": "Llama 4",
    "phi4-multimodal": "Phi-4-multimodal",
    "pixtral": "Pixtral",
    "mistral3": "Mistral 3",
    "smolvlm": "SmolVLM",
    "idefics2": "Idefics2",
    "idefics3": "Idefics3",
    "aya-vision": "Aya Vision",
    "cohere2-vision": "Cohere 2 Vision",
    "glm4v": "GLM-4V",
    "glm4.6v": "GLM-4.6V",
    "glm-ocr": "GLM-OCR",
    "ernie4.5-vl": "Ernie 4.5 VL",
    "paddleocr-vl": "PaddleOCR-VL",
    "hunyuan-vl": "HunYuan-VL",
    "lighton-ocr": "LightOnOCR",
    "got-ocr2": "GOT-OCR 2",
    "lfm2-vl": "LFM2-VL",
    "ovis2": "Ovis2",
    "molmo2": "Molmo2",
    "fuyu": "Fuyu",
    "janus": "Janus",
    "deepseek-vl": "DeepSeek-VL",
    "chameleon": "Chameleon",
    "kosmos2.5": "Kosmos-2.5",
    "kosmos2": "Kosmos-2",
}
"""Every family that is read, and what people call it."""


REASONS = {
    "at every step": "Kosmos-2 wants its picture at every step: `sgrs_generate` works, all else is refused.",
}
"""What is said of a refusal in docs/models.md."""


def limit(name: str, check: str) -> str | None:
    """How the refusal reads of what a family does not do; None where it does it."""
    if name in GENERATED and check not in {"custom_generate", "logits processors"}:
        return "at every step"
    return None


SINGLE = frozenset({"ernie4.5-vl", "qwen3-vl-moe", "llama4", "kosmos2"})
"""Families whose experts know no double precision."""


def build(name: str) -> Case:
    """A fresh tiny model in float64 (float32 where experts know no other); the same name gives the same weights."""
    case = {**tiny.BUILDERS, **tiny.RECURRENT, **SCORED, **GENERATED, **ACROSS, **REFUSED}[name]()
    return case if name in SINGLE else tiny.to(case, torch.float64)


def picture_positions(case: Case) -> torch.Tensor:
    """Which positions of a case's prompt are a picture's: ``[P]`` bool."""
    marked = case.inputs.get("image_embeds_position_mask")
    return case.inputs["input_ids"][0] == IMAGE if marked is None else marked[0] != 0
