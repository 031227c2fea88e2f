"""Tiny random models of the families people run, each with one prompt: what makes them differ is in them.

Multimodal rotary positions, positions that start at one, prefixes that look both ways, tiles, rows and
windows: a family whose positions or masks were handled like another's would be scored wrongly.
"""

from __future__ import annotations

from collections.abc import Callable

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

PREFIXED: dict[str, Callable[[], Case]] = {"paligemma": odd.paligemma_1, "paligemma2": odd.paligemma_2}
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
    "gemma3n": odd.gemma3n,
    "gemma4": odd.gemma4,
    "llama4": odd.llama4,
    "molmo2": odd.molmo2,
    "chameleon": odd.chameleon,
}

SCORED = {**MULTIMODAL_ROTARY, **PREFIXED, **OTHERS}

GENERATED = {"kosmos2": odd.kosmos2}
"""Cannot be continued from outside its own `generate`."""

ACROSS = {"mllama": odd.mllama, "mllama-two": odd.mllama_two}
"""Some layers look at pictures alone, the others at the text alone."""

REFUSED = {"idefics": odd.idefics, "blip2": odd.blip2}


def build(name: str) -> Case:
    """A fresh tiny model in float64 (float32 where experts know no other); the same name gives the same weights."""
    case = {**SCORED, **GENERATED, **ACROSS, **REFUSED}[name]()
    single = name in {"ernie4.5-vl", "qwen3-vl-moe", "llama4", "kosmos2"}
    return case if single else tiny.to(case, torch.float64)


def picture_positions(case: Case) -> torch.Tensor:
    """Which positions of a case's prompt are a picture's: ``[P]`` bool."""
    marked = case.inputs.get("image_embeds_position_mask")
    return case.inputs["input_ids"][0] == IMAGE if marked is None else marked[0] != 0
