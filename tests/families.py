"""Tiny random models of the families people run, each with one prompt: what makes them differ is in them.

Multimodal rotary positions, positions that start at one, prefixes that look both ways, tiles, rows and
windows: a family whose positions or masks were handled like another's would be scored wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tiny
import torch
import transformers as hf
from tiny import IMAGE, Case

VIDEO = 91
START = 92
END = 93

_CLIP: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
"""A tower of 4 by 4 patches."""

_MROPE: dict[str, Any] = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
_QWEN_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
_QWEN_TOWER: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "intermediate_size": 24,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 32,
}


def _with_grid(model: Any, seed: int, *, per_patch: tuple[int, ...] = (3 * 2 * 4 * 4,)) -> Case:
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


def _qwen2_5_vl() -> Case:
    config = hf.Qwen2_5_VLConfig(
        text_config={**tiny._TEXT, "rope_parameters": _MROPE},
        vision_config={**_QWEN_TOWER, "window_size": 16, "fullatt_block_indexes": [1]},
        **_QWEN_TOKENS,
    )
    return _with_grid(hf.Qwen2_5_VLForConditionalGeneration(config), 11)


def _qwen3_vl() -> Case:
    config = hf.Qwen3VLConfig(
        text_config={
            **tiny._TEXT,
            "head_dim": 8,
            "rope_parameters": {**_MROPE, "mrope_interleaved": True},
        },
        vision_config={**_QWEN_TOWER, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **_QWEN_TOKENS,
    )
    return _with_grid(hf.Qwen3VLForConditionalGeneration(config), 12)


_GLM_TOWER = {
    **_QWEN_TOWER,
    "image_size": 16,
}
_GLM_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "image_start_token_id": START,
    "image_end_token_id": END,
    "video_start_token_id": 94,
    "video_end_token_id": 95,
}


def _glm4v() -> Case:
    config = hf.Glm4vConfig(
        text_config={**tiny._TEXT, "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0}},
        vision_config=_GLM_TOWER,
        **_GLM_TOKENS,
    )
    return _with_grid(hf.Glm4vForConditionalGeneration(config), 13)


def _ernie4_5_vl() -> Case:
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
        **_GLM_TOKENS,
    )
    case = _with_grid(hf.Ernie4_5_VLMoeForConditionalGeneration(config), 14, per_patch=(3 * 4 * 4,))
    case.inputs["moe_mm_token_type_ids"] = case.inputs["mm_token_type_ids"].clone()
    return case


def _paddleocr_vl() -> Case:
    config = hf.PaddleOCRVLConfig(
        text_config={**tiny._TEXT, "head_dim": 8, "rope_parameters": _MROPE},
        vision_config={**_CLIP, "spatial_merge_size": 2},
        **_QWEN_TOKENS,
    )
    return _with_grid(hf.PaddleOCRVLForConditionalGeneration(config), 15, per_patch=(3, 4, 4))


def _case(model: Any, seed: int, ids: torch.Tensor, **inputs: torch.Tensor) -> Case:
    return Case(tiny._awake(model, seed), {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs})


def _two_pictures(each: int) -> torch.Tensor:
    return tiny._ids(1, 5, START, [IMAGE] * each, END, 7, START, [IMAGE] * each, END, 9, 10)


def _siglip(**changes: Any) -> dict[str, Any]:
    return {"model_type": "siglip_vision_model", "vision_use_head": False, **_CLIP, **changes}


def _llama(**changes: Any) -> hf.LlamaConfig:
    return hf.LlamaConfig(**{**tiny._TEXT, **changes})


def _paligemma(text: Any, seed: int) -> Case:
    """The prompt is a prefix that looks both ways; positions start at one."""
    config = hf.PaliGemmaConfig(
        text_config=text, vision_config=_siglip(), projection_dim=32, image_token_index=IMAGE, hidden_size=32
    )
    ids = tiny._ids([IMAGE] * 16, 1, 5, 7, 9, 10)
    kinds = torch.zeros_like(ids)
    # As the processor has it: labels for training come with every prompt.
    return _case(
        hf.PaliGemmaForConditionalGeneration(config),
        seed,
        ids,
        token_type_ids=kinds,
        labels=torch.full_like(ids, -100),
        pixel_values=tiny._pixels(1, 3, 16, 16),
    )


def _paligemma_1() -> Case:
    return _paligemma(hf.GemmaConfig(**tiny._TEXT, head_dim=8), 21)


def _paligemma_2() -> Case:
    text = {**tiny._TEXT, "num_hidden_layers": 6}
    return _paligemma(hf.Gemma2Config(**text, head_dim=8, sliding_window=12, query_pre_attn_scalar=8), 22)


def _llava_next() -> Case:
    """A picture of two tiles and the whole of it: rows of tiles end with a newline feature."""
    config = hf.LlavaNextConfig(
        text_config=_llama(),
        vision_config=hf.CLIPVisionConfig(**{**_CLIP, "image_size": 8}),
        image_token_index=IMAGE,
        image_grid_pinpoints=[[8, 16]],
    )
    # 2 by 2 of the whole, 2 rows of 4 and their newlines.
    ids = tiny._ids(1, 5, [IMAGE] * 14, 7, 9, 10)
    return _case(
        hf.LlavaNextForConditionalGeneration(config),
        23,
        ids,
        pixel_values=tiny._pixels(1, 3, 3, 8, 8),
        image_sizes=torch.tensor([[8, 16]]),
    )


def _llava_onevision() -> Case:
    config = hf.LlavaOnevisionConfig(
        text_config=hf.Qwen2Config(**tiny._TEXT),
        vision_config=_siglip(image_size=8),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[8, 16]],
    )
    ids = tiny._ids(1, 5, [IMAGE] * 14, 7, 9, 10)
    return _case(
        hf.LlavaOnevisionForConditionalGeneration(config),
        24,
        ids,
        pixel_values=tiny._pixels(1, 3, 3, 8, 8),
        image_sizes=torch.tensor([[8, 16]]),
    )


def _vipllava() -> Case:
    config = hf.VipLlavaConfig(
        text_config=_llama(),
        vision_config=hf.CLIPVisionConfig(**{**_CLIP, "image_size": 8}),
        image_token_index=IMAGE,
        vision_feature_layers=[-2, -1],
    )
    ids = tiny._ids(1, 5, [IMAGE] * 4, 7, [IMAGE] * 4, 9, 10)
    return _case(hf.VipLlavaForConditionalGeneration(config), 25, ids, pixel_values=tiny._pixels(2, 3, 8, 8))


_PIXTRAL: dict[str, Any] = {"model_type": "pixtral", **_CLIP, "head_dim": 8}


def _pixtral() -> Case:
    config = hf.LlavaConfig(
        text_config=hf.MistralConfig(**tiny._TEXT, head_dim=8, sliding_window=None),
        vision_config=_PIXTRAL,
        image_token_id=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    # Rows of two patches, parted by a token as the processor has it.
    ids = tiny._ids(1, 5, [IMAGE] * 2, 94, [IMAGE] * 2, 95, 7, 9, 10)
    return _case(
        hf.LlavaForConditionalGeneration(config),
        26,
        ids,
        pixel_values=tiny._pixels(1, 3, 8, 8),
        image_sizes=torch.tensor([[8, 8]]),
    )


def _mistral3() -> Case:
    config = hf.Mistral3Config(
        text_config=hf.MistralConfig(**tiny._TEXT, head_dim=8, sliding_window=None),
        vision_config=_PIXTRAL,
        image_token_index=IMAGE,
        spatial_merge_size=2,
    )
    ids = tiny._ids(1, 5, [IMAGE] * 2, 94, [IMAGE] * 2, 95, 7, 9, 10)
    return _case(
        hf.Mistral3ForConditionalGeneration(config),
        27,
        ids,
        pixel_values=tiny._pixels(1, 3, 16, 16),
        image_sizes=torch.tensor([[16, 16]]),
    )


def _idefics2() -> Case:
    config = hf.Idefics2Config(
        text_config=hf.MistralConfig(**tiny._TEXT, head_dim=8, sliding_window=None),
        vision_config=_CLIP,
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 3,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
        },
        image_token_id=IMAGE,
    )
    return _case(
        hf.Idefics2ForConditionalGeneration(config), 28, _two_pictures(3), pixel_values=tiny._pixels(1, 2, 3, 16, 16)
    )


def _idefics3() -> Case:
    config = hf.Idefics3Config(text_config=_llama(), vision_config=_CLIP, image_token_id=IMAGE, scale_factor=2)
    return _case(
        hf.Idefics3ForConditionalGeneration(config), 29, _two_pictures(4), pixel_values=tiny._pixels(1, 2, 3, 16, 16)
    )


def _smolvlm() -> Case:
    config = hf.SmolVLMConfig(text_config=_llama(), vision_config=_CLIP, image_token_id=IMAGE, scale_factor=2)
    return _case(
        hf.SmolVLMForConditionalGeneration(config), 30, _two_pictures(4), pixel_values=tiny._pixels(1, 2, 3, 16, 16)
    )


def _cohere(**changes: Any) -> dict[str, Any]:
    return {**tiny._TEXT, "num_hidden_layers": 4, "layer_norm_eps": 1e-5, **changes}


def _aya_vision() -> Case:
    config = hf.AyaVisionConfig(
        text_config=hf.Cohere2Config(**_cohere(head_dim=8, sliding_window=6)),
        vision_config=_siglip(),
        image_token_index=IMAGE,
        downsample_factor=2,
    )
    return _case(
        hf.AyaVisionForConditionalGeneration(config), 31, _two_pictures(4), pixel_values=tiny._pixels(2, 3, 16, 16)
    )


def _cohere2_vision() -> Case:
    config = hf.Cohere2VisionConfig(
        text_config=hf.Cohere2Config(**_cohere(head_dim=8, sliding_window=6)),
        vision_config=_siglip(),
        image_token_id=IMAGE,
        downsample_factor=2,
        alignment_intermediate_size=32,
    )
    return _case(
        hf.Cohere2VisionForConditionalGeneration(config),
        32,
        _two_pictures(4),
        pixel_values=tiny._pixels(2, 3, 16, 16),
    )


def _lighton_ocr() -> Case:
    config = hf.LightOnOcrConfig(
        text_config=hf.Qwen3Config(**tiny._TEXT, head_dim=8),
        vision_config=_PIXTRAL,
        image_token_id=IMAGE,
        spatial_merge_size=2,
    )
    ids = tiny._ids(1, 5, [IMAGE] * 4, 7, 9, 10)
    return _case(
        hf.LightOnOcrForConditionalGeneration(config),
        33,
        ids,
        pixel_values=tiny._pixels(1, 3, 16, 16),
        image_sizes=torch.tensor([[16, 16]]),
    )


def _got_ocr2() -> Case:
    config = hf.GotOcr2Config(
        text_config=hf.Qwen2Config(**tiny._TEXT),
        vision_config={
            "hidden_size": 16,
            "output_channels": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 4,
            "window_size": 2,
            "global_attn_indexes": [1],
            "mlp_dim": 24,
        },
        image_token_index=IMAGE,
    )
    ids = tiny._ids(1, 5, [IMAGE] * 4, 7, 9, 10)
    return _case(hf.GotOcr2ForConditionalGeneration(config), 34, ids, pixel_values=tiny._pixels(1, 3, 32, 32))


def _ovis2() -> Case:
    config = hf.Ovis2Config(
        text_config=hf.Qwen2Config(**tiny._TEXT),
        vision_config={**_CLIP, "vocab_size": 24, "hidden_stride": 2},
        image_token_id=IMAGE,
        visual_indicator_token_ids=[91, 92, 93, 94, 95],
        vocab_size=tiny.VOCABULARY,
        hidden_size=32,
    )
    ids = tiny._ids(1, 5, 92, [IMAGE] * 4, 93, 7, 9, 10)
    return _case(hf.Ovis2ForConditionalGeneration(config), 35, ids, pixel_values=tiny._pixels(1, 3, 16, 16))


def _janus() -> Case:
    config = hf.JanusConfig(
        text_config=_llama(),
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
            "projection_dim": 32,
            "num_image_tokens": 4,
        },
        vq_config={
            "embed_dim": 4,
            "num_embeddings": 16,
            "latent_channels": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_patches": 4,
            "projection_dim": 32,
            "image_token_embed_dim": 32,
        },
        image_token_id=IMAGE,
    )
    ids = tiny._ids(1, 5, START, [IMAGE] * 4, END, 7, 9, 10)
    return _case(hf.JanusForConditionalGeneration(config), 36, ids, pixel_values=tiny._pixels(1, 3, 8, 8))


def _deepseek_vl() -> Case:
    config = hf.DeepseekVLConfig(text_config=_llama(), vision_config=_siglip(), image_token_id=IMAGE)
    ids = tiny._ids(1, 5, [IMAGE] * 16, 7, 9, 10)
    return _case(hf.DeepseekVLForConditionalGeneration(config), 37, ids, pixel_values=tiny._pixels(1, 3, 16, 16))


def _kosmos2_5() -> Case:
    """Positions begin after the padding's number, and pictures are marked by a mask."""
    config = hf.Kosmos2_5Config(
        text_config={
            "vocab_size": tiny.VOCABULARY,
            "embed_dim": 32,
            "layers": 5,
            "ffn_dim": 48,
            "attention_heads": 4,
            "max_position_embeddings": 64,
        },
        vision_config={
            "hidden_size": 16,
            "patch_embed_hidden_size": 12,
            "intermediate_size": 24,
            "head_dim": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_num_patches": 16,
        },
        latent_query_num=4,
    )
    ids = tiny._ids(5, 92, [4] * 4, 93, 7, 9, 10)
    patches = tiny._pixels(1, 4, 14)
    patches[..., 0] = torch.tensor([1.0, 1.0, 2.0, 2.0])
    patches[..., 1] = torch.tensor([1.0, 2.0, 1.0, 2.0])
    return _case(
        hf.Kosmos2_5ForConditionalGeneration(config),
        38,
        ids,
        flattened_patches=patches,
        image_embeds_position_mask=(ids == 4).long(),
    )


def _kosmos2() -> Case:
    config = hf.Kosmos2Config(
        text_config={
            "vocab_size": tiny.VOCABULARY,
            "embed_dim": 32,
            "layers": 5,
            "ffn_dim": 48,
            "attention_heads": 4,
            "max_position_embeddings": 64,
        },
        vision_config=_CLIP,
        latent_query_num=4,
    )
    ids = tiny._ids(5, 92, [4] * 4, 93, 7, 9, 10)
    return _case(
        hf.Kosmos2ForConditionalGeneration(config),
        39,
        ids,
        pixel_values=tiny._pixels(1, 3, 16, 16),
        image_embeds_position_mask=(ids == 4).long(),
    )


def _qwen3_vl_moe() -> Case:
    config = hf.Qwen3VLMoeConfig(
        text_config={
            **tiny._TEXT,
            "head_dim": 8,
            "rope_parameters": {**_MROPE, "mrope_interleaved": True},
            "moe_intermediate_size": 16,
            "num_experts_per_tok": 2,
            "num_experts": 4,
        },
        vision_config={**_QWEN_TOWER, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **_QWEN_TOKENS,
    )
    return _with_grid(hf.Qwen3VLMoeForConditionalGeneration(config), 40)


def _glm46v() -> Case:
    config = hf.Glm46VConfig(
        text_config={
            "model_type": "glm4v_text",
            **tiny._TEXT,
            "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0},
        },
        vision_config={"model_type": "glm4v_vision", **_GLM_TOWER},
        **_GLM_TOKENS,
    )
    return _with_grid(hf.Glm46VForConditionalGeneration(config), 41)


def _glm_ocr() -> Case:
    config = hf.GlmOcrConfig(
        text_config={**tiny._TEXT, "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0}},
        vision_config=_GLM_TOWER,
        **_GLM_TOKENS,
    )
    return _with_grid(hf.GlmOcrForConditionalGeneration(config), 42)


def _mllama() -> Case:
    """Every other layer looks at the picture across, and none at it along the sequence."""
    config = hf.MllamaConfig(
        text_config={
            **tiny._TEXT,
            "cross_attention_layers": [1, 3],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "intermediate_size": 24,
            "vision_output_dim": 32,
            "image_size": 8,
            "patch_size": 4,
            "max_num_tiles": 1,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1]],
        },
        image_token_index=IMAGE,
    )
    ids = tiny._ids(IMAGE, 1, 5, 7, 9, 10)
    return _case(
        hf.MllamaForConditionalGeneration(config),
        43,
        ids,
        pixel_values=tiny._pixels(1, 1, 1, 3, 8, 8),
        aspect_ratio_ids=torch.tensor([[1]]),
        aspect_ratio_mask=torch.tensor([[[1]]]),
        cross_attention_mask=torch.ones(1, len(ids[0]), 1, 1, dtype=torch.long),
    )


def _hunyuan_vl() -> Case:
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
    return _case(
        hf.HunYuanVLForConditionalGeneration(config),
        44,
        ids,
        pixel_values=tiny._pixels(16, 3 * 4 * 4),
        image_grid_thw=torch.tensor([[1, 4, 4]]),
        mm_token_type_ids=(ids == IMAGE).long(),
    )


def _gemma4() -> Case:
    """The two uppermost layers take keys and values from below; pictures look both ways."""
    config = hf.Gemma4Config(
        text_config={
            **tiny._TEXT,
            "num_hidden_layers": 6,
            "head_dim": 8,
            "global_head_dim": 16,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
            "vocab_size_per_layer_input": tiny.VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
            "use_bidirectional_attention": "vision",
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "pooling_kernel_size": 2,
            "patch_size": 4,
            "position_embedding_size": 16,
        },
        audio_config=None,
        boi_token_id=START,
        eoi_token_id=END,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        audio_token_id=94,
        boa_token_id=95,
        eoa_token_index=96,
    )
    ids = tiny._ids(1, 5, START, [IMAGE] * 4, END, 7, 9, 10)
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4)).flip(-1)[None]
    return _case(
        hf.Gemma4ForConditionalGeneration(config),
        45,
        ids,
        pixel_values=tiny._pixels(1, 16, 3 * 4 * 4),
        image_position_ids=places,
        mm_token_type_ids=(ids == IMAGE).long(),
    )


def _llama4() -> Case:
    """Attention in chunks, and layers without positions whose temperature follows them."""
    config = hf.Llama4Config(
        text_config={
            **tiny._TEXT,
            "head_dim": 8,
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 8,
            "moe_layers": [1, 3],
            "no_rope_layers": [1, 1, 1, 0, 1],
            "floor_scale": 4,
        },
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "vision_output_dim": 16,
            "image_size": 16,
            "patch_size": 4,
            "projector_input_dim": 16,
            "projector_output_dim": 16,
        },
        image_token_index=IMAGE,
        boi_token_index=START,
        eoi_token_index=END,
    )
    ids = tiny._ids(1, 5, START, [IMAGE] * 4, END, 7, 9, 10)
    return _case(hf.Llama4ForConditionalGeneration(config), 46, ids, pixel_values=tiny._pixels(1, 3, 16, 16))


def _molmo2() -> Case:
    """One token for pictures and videos."""
    tower = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    config = hf.Molmo2Config(
        text_config={**tiny._TEXT, "head_dim": 8, "additional_vocab_size": 8},
        vision_config={
            **tower,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "image_size": [16, 16],
            "patch_size": 4,
        },
        adapter_config={**tower, "vision_feature_layer": [-1, -2], "intermediate_size": 24, "text_hidden_size": 32},
        image_patch_id=IMAGE,
        image_start_token_id=START,
        low_res_image_start_token_id=94,
        image_end_token_id=END,
        frame_start_token_id=95,
        frame_end_token_id=96,
    )
    ids = tiny._ids(1, 5, 94, [IMAGE] * 4, END, 7, 9, 10)
    return _case(
        hf.Molmo2ForConditionalGeneration(config),
        47,
        ids,
        pixel_values=tiny._pixels(1, 16, 3 * 4 * 4),
        image_token_pooling=torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]),
        image_grids=torch.tensor([[2, 2, 0, 0]]),
        image_num_crops=torch.tensor([1]),
        mm_token_type_ids=(ids == IMAGE).long(),
    )


def _chameleon() -> Case:
    """Pictures are tokens of a codebook, made by a tower that belongs to the decoder."""
    letters = str.maketrans("0123456789", "ABCDEFGHIJ")
    config = hf.ChameleonConfig(
        **tiny._TEXT,
        vq_config={
            "embed_dim": 8,
            "num_embeddings": 16,
            "latent_channels": 8,
            "resolution": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 2],
            "num_res_blocks": 1,
        },
        vocabulary_map={"<image>": IMAGE, **{f"IMGIMG{str(n).translate(letters)}Z": 40 + n for n in range(16)}},
    )
    ids = tiny._ids(1, 5, [IMAGE] * 16, 7, 9, 10)
    return _case(hf.ChameleonForConditionalGeneration(config), 48, ids, pixel_values=tiny._pixels(1, 3, 8, 8))


def _blip2() -> Case:
    config = hf.Blip2Config(
        vision_config=_CLIP,
        qformer_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "encoder_hidden_size": 16,
        },
        text_config={"model_type": "llama", **tiny._TEXT},
        num_query_tokens=4,
        image_token_index=IMAGE,
    )
    ids = tiny._ids([IMAGE] * 4, 1, 5, 7, 9, 10)
    return _case(hf.Blip2ForConditionalGeneration(config), 49, ids, pixel_values=tiny._pixels(1, 3, 16, 16))


def _idefics() -> Case:
    config = hf.IdeficsConfig(
        vocab_size=tiny.VOCABULARY,
        additional_vocab_size=0,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        cross_layer_interval=2,
        vision_config={"embed_dim": 16, **_CLIP},
    )
    ids = tiny._ids(1, 5, 7, 9, 10)
    return _case(
        hf.IdeficsForVisionText2Text(config),
        50,
        ids,
        pixel_values=tiny._pixels(1, 1, 3, 16, 16),
        image_attention_mask=torch.ones(1, 5, 1, dtype=torch.long),
    )


MULTIMODAL_ROTARY: dict[str, Callable[[], Case]] = {
    "qwen2-vl": tiny.BUILDERS["qwen2-vl"],
    "qwen2.5-vl": _qwen2_5_vl,
    "qwen3-vl": _qwen3_vl,
    "qwen3-vl-moe": _qwen3_vl_moe,
    "glm4v": _glm4v,
    "glm4.6v": _glm46v,
    "glm-ocr": _glm_ocr,
    "ernie4.5-vl": _ernie4_5_vl,
    "paddleocr-vl": _paddleocr_vl,
    "hunyuan-vl": _hunyuan_vl,
}
"""Positions have three rows or four, and a picture takes fewer of them than tokens."""

PREFIXED: dict[str, Callable[[], Case]] = {"paligemma": _paligemma_1, "paligemma2": _paligemma_2}
"""The prompt looks both ways, and is counted from one."""

OTHERS: dict[str, Callable[[], Case]] = {
    "llava-next": _llava_next,
    "llava-onevision": _llava_onevision,
    "vipllava": _vipllava,
    "pixtral": _pixtral,
    "mistral3": _mistral3,
    "idefics2": _idefics2,
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "aya-vision": _aya_vision,
    "cohere2-vision": _cohere2_vision,
    "lighton-ocr": _lighton_ocr,
    "got-ocr2": _got_ocr2,
    "ovis2": _ovis2,
    "janus": _janus,
    "deepseek-vl": _deepseek_vl,
    "kosmos2.5": _kosmos2_5,
    "gemma4": _gemma4,
    "llama4": _llama4,
    "molmo2": _molmo2,
    "chameleon": _chameleon,
}

SCORED = {**MULTIMODAL_ROTARY, **PREFIXED, **OTHERS}

GENERATED = {"kosmos2": _kosmos2}
"""Cannot be continued from outside its own `generate`."""

REFUSED = {"mllama": _mllama, "idefics": _idefics, "blip2": _blip2}


def build(name: str) -> Case:
    """A fresh tiny model in float64 (float32 where experts know no other); the same name gives the same weights."""
    case = {**SCORED, **GENERATED, **REFUSED}[name]()
    single = name in {"ernie4.5-vl", "qwen3-vl-moe", "llama4", "kosmos2"}
    return case if single else tiny.to(case, torch.float64)


def picture_positions(case: Case) -> torch.Tensor:
    """Which positions of a case's prompt are a picture's: ``[P]`` bool."""
    marked = case.inputs.get("image_embeds_position_mask")
    return case.inputs["input_ids"][0] == IMAGE if marked is None else marked[0] != 0
