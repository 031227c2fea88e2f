"""Families with multimodal rotary positions: several rows of them, and a picture takes fewer than tokens."""

from __future__ import annotations

from typing import Any

import tiny
import torch
import transformers as hf
from family_parts import CLIP, END, START, VIDEO, case
from tiny import IMAGE, Case

MROPE: dict[str, Any] = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}

QWEN_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}

QWEN_TOWER: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "intermediate_size": 24,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 32,
}


def with_grid(model: Any, seed: int, *, per_patch: tuple[int, ...] = (3 * 2 * 4 * 4,)) -> Case:
    """Two pictures of 4 by 4 and 4 by 2 patches, four of which make one position."""
    ids = tiny._ids(1, 5, START, [IMAGE] * 4, END, 7, START, [IMAGE] * 2, END, 9, 10)
    return Case(
        tiny._awake(model, seed),
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == IMAGE).long(),
            "pixel_values": tiny._pixels(24, *per_patch),
            "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 2]]),
        },
    )


def qwen2_5_vl() -> Case:
    config = hf.Qwen2_5_VLConfig(
        text_config={**tiny._TEXT, "rope_parameters": MROPE},
        vision_config={**QWEN_TOWER, "window_size": 16, "fullatt_block_indexes": [1]},
        **QWEN_TOKENS,
    )
    return with_grid(hf.Qwen2_5_VLForConditionalGeneration(config), 11)


def qwen3_vl() -> Case:
    config = hf.Qwen3VLConfig(
        text_config={
            **tiny._TEXT,
            "head_dim": 8,
            "rope_parameters": {**MROPE, "mrope_interleaved": True},
        },
        vision_config={**QWEN_TOWER, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **QWEN_TOKENS,
    )
    return with_grid(hf.Qwen3VLForConditionalGeneration(config), 12)


GLM_TOWER = {
    **QWEN_TOWER,
    "image_size": 16,
}

GLM_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "image_start_token_id": START,
    "image_end_token_id": END,
    "video_start_token_id": 94,
    "video_end_token_id": 95,
}


def glm4v() -> Case:
    config = hf.Glm4vConfig(
        text_config={**tiny._TEXT, "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}},
        vision_config=GLM_TOWER,
        **GLM_TOKENS,
    )
    return with_grid(hf.Glm4vForConditionalGeneration(config), 13)


def ernie4_5_vl() -> Case:
    config = hf.Ernie4_5_VLMoeConfig(
        text_config={
            **tiny._TEXT,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
            "moe_intermediate_size": [16, 8],
            "moe_k": 2,
            "moe_num_experts": 4,
            "moe_num_shared_experts": 1,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 24,
            "patch_size": 4,
            "spatial_merge_size": 2,
        },
        **GLM_TOKENS,
    )
    case = with_grid(hf.Ernie4_5_VLMoeForConditionalGeneration(config), 14, per_patch=(3 * 4 * 4,))
    case.inputs["moe_mm_token_type_ids"] = case.inputs["mm_token_type_ids"].clone()
    return case


def paddleocr_vl() -> Case:
    config = hf.PaddleOCRVLConfig(
        text_config={**tiny._TEXT, "head_dim": 8, "rope_parameters": MROPE},
        vision_config={**CLIP, "spatial_merge_size": 2},
        **QWEN_TOKENS,
    )
    return with_grid(hf.PaddleOCRVLForConditionalGeneration(config), 15, per_patch=(3, 4, 4))


def qwen3_vl_moe() -> Case:
    config = hf.Qwen3VLMoeConfig(
        text_config={
            **tiny._TEXT,
            "head_dim": 8,
            "rope_parameters": {**MROPE, "mrope_interleaved": True},
            "moe_intermediate_size": 16,
            "num_experts_per_tok": 2,
            "num_experts": 4,
        },
        vision_config={**QWEN_TOWER, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **QWEN_TOKENS,
    )
    return with_grid(hf.Qwen3VLMoeForConditionalGeneration(config), 40)


def glm46v() -> Case:
    config = hf.Glm46VConfig(
        text_config={
            "model_type": "glm4v_text",
            **tiny._TEXT,
            "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0},
        },
        vision_config={"model_type": "glm4v_vision", **GLM_TOWER},
        **GLM_TOKENS,
    )
    return with_grid(hf.Glm46VForConditionalGeneration(config), 41)


def glm_ocr() -> Case:
    config = hf.GlmOcrConfig(
        text_config={**tiny._TEXT, "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}},
        vision_config=GLM_TOWER,
        **GLM_TOKENS,
    )
    return with_grid(hf.GlmOcrForConditionalGeneration(config), 42)


def hunyuan_vl() -> Case:
    """Four rows of positions; rows of a picture end with newline features, and it with others."""
    config = hf.HunYuanVLConfig(
        text_config={
            **tiny._TEXT,
            "head_dim": 8,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 1, 1]},
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "out_hidden_size": 32,
            "text_hidden_size": 32,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "max_image_size": 64,
            "min_image_size": 8,
        },
        image_token_id=IMAGE,
    )
    ids = tiny._ids(1, 5, [IMAGE] * 8, 7, 9, 10)
    return case(
        hf.HunYuanVLForConditionalGeneration(config),
        44,
        ids,
        pixel_values=tiny._pixels(16, 3 * 4 * 4),
        image_grid_thw=torch.tensor([[1, 4, 4]]),
        mm_token_type_ids=(ids == IMAGE).long(),
    )
