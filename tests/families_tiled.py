"""Families that put a tower before a decoder: tiles, rows, newlines, resamplers, code books."""

from __future__ import annotations

from typing import Any

import tiny
import torch
import transformers as hf
from family_parts import CLIP, END, START, VIDEO, case, llama, siglip, two_pictures
from tiny import IMAGE, Case


def llava_next() -> Case:
    """A picture of two tiles and the whole of it: rows of tiles end with a newline feature."""
    config = hf.LlavaNextConfig(
        text_config=llama(),
        vision_config=hf.CLIPVisionConfig(**{**CLIP, "image_size": 8}),
        image_token_index=IMAGE,
        image_grid_pinpoints=[[8, 16]],
    )
    # 2 by 2 of the whole, 2 rows of 4 and their newlines.
    ids = tiny._ids(1, 5, [IMAGE] * 14, 7, 9, 10)
    return case(
        hf.LlavaNextForConditionalGeneration(config),
        23,
        ids,
        pixel_values=tiny._pixels(1, 3, 3, 8, 8),
        image_sizes=torch.tensor([[8, 16]]),
    )


def llava_onevision() -> Case:
    config = hf.LlavaOnevisionConfig(
        text_config=hf.Qwen2Config(**tiny._TEXT),
        vision_config=siglip(image_size=8),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[8, 16]],
    )
    ids = tiny._ids(1, 5, [IMAGE] * 14, 7, 9, 10)
    return case(
        hf.LlavaOnevisionForConditionalGeneration(config),
        24,
        ids,
        pixel_values=tiny._pixels(1, 3, 3, 8, 8),
        image_sizes=torch.tensor([[8, 16]]),
    )


def vipllava() -> Case:
    config = hf.VipLlavaConfig(
        text_config=llama(),
        vision_config=hf.CLIPVisionConfig(**{**CLIP, "image_size": 8}),
        image_token_index=IMAGE,
        vision_feature_layers=[-2, -1],
    )
    ids = tiny._ids(1, 5, [IMAGE] * 4, 7, [IMAGE] * 4, 9, 10)
    return case(hf.VipLlavaForConditionalGeneration(config), 25, ids, pixel_values=tiny._pixels(2, 3, 8, 8))


PIXTRAL: dict[str, Any] = {"model_type": "pixtral", **CLIP, "head_dim": 8}


def pixtral() -> Case:
    config = hf.LlavaConfig(
        text_config=hf.MistralConfig(**tiny._TEXT, head_dim=8, sliding_window=None),
        vision_config=PIXTRAL,
        image_token_id=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    # Rows of two patches, parted by a token as the processor has it.
    ids = tiny._ids(1, 5, [IMAGE] * 2, 94, [IMAGE] * 2, 95, 7, 9, 10)
    return case(
        hf.LlavaForConditionalGeneration(config),
        26,
        ids,
        pixel_values=tiny._pixels(1, 3, 8, 8),
        image_sizes=torch.tensor([[8, 8]]),
    )


def mistral3() -> Case:
    config = hf.Mistral3Config(
        text_config=hf.MistralConfig(**tiny._TEXT, head_dim=8, sliding_window=None),
        vision_config=PIXTRAL,
        image_token_index=IMAGE,
        spatial_merge_size=2,
    )
    ids = tiny._ids(1, 5, [IMAGE] * 2, 94, [IMAGE] * 2, 95, 7, 9, 10)
    return case(
        hf.Mistral3ForConditionalGeneration(config),
        27,
        ids,
        pixel_values=tiny._pixels(1, 3, 16, 16),
        image_sizes=torch.tensor([[16, 16]]),
    )


def idefics2() -> Case:
    config = hf.Idefics2Config(
        text_config=hf.MistralConfig(**tiny._TEXT, head_dim=8, sliding_window=None),
        vision_config=CLIP,
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
    return case(
        hf.Idefics2ForConditionalGeneration(config), 28, two_pictures(3), pixel_values=tiny._pixels(1, 2, 3, 16, 16)
    )


def idefics3() -> Case:
    config = hf.Idefics3Config(text_config=llama(), vision_config=CLIP, image_token_id=IMAGE, scale_factor=2)
    return case(
        hf.Idefics3ForConditionalGeneration(config), 29, two_pictures(4), pixel_values=tiny._pixels(1, 2, 3, 16, 16)
    )


def smolvlm() -> Case:
    config = hf.SmolVLMConfig(text_config=llama(), vision_config=CLIP, image_token_id=IMAGE, scale_factor=2)
    return case(
        hf.SmolVLMForConditionalGeneration(config), 30, two_pictures(4), pixel_values=tiny._pixels(1, 2, 3, 16, 16)
    )


def cohere(**changes: Any) -> dict[str, Any]:
    return {**tiny._TEXT, "num_hidden_layers": 4, "layer_norm_eps": 1e-5, **changes}


def aya_vision() -> Case:
    config = hf.AyaVisionConfig(
        text_config=hf.Cohere2Config(**cohere(head_dim=8, sliding_window=6)),
        vision_config=siglip(),
        image_token_index=IMAGE,
        downsample_factor=2,
    )
    return case(
        hf.AyaVisionForConditionalGeneration(config), 31, two_pictures(4), pixel_values=tiny._pixels(2, 3, 16, 16)
    )


def cohere2_vision() -> Case:
    config = hf.Cohere2VisionConfig(
        text_config=hf.Cohere2Config(**cohere(head_dim=8, sliding_window=6)),
        vision_config=siglip(),
        image_token_id=IMAGE,
        downsample_factor=2,
        alignment_intermediate_size=32,
    )
    return case(
        hf.Cohere2VisionForConditionalGeneration(config),
        32,
        two_pictures(4),
        pixel_values=tiny._pixels(2, 3, 16, 16),
    )


def lighton_ocr() -> Case:
    config = hf.LightOnOcrConfig(
        text_config=hf.Qwen3Config(**tiny._TEXT, head_dim=8),
        vision_config=PIXTRAL,
        image_token_id=IMAGE,
        spatial_merge_size=2,
    )
    ids = tiny._ids(1, 5, [IMAGE] * 4, 7, 9, 10)
    return case(
        hf.LightOnOcrForConditionalGeneration(config),
        33,
        ids,
        pixel_values=tiny._pixels(1, 3, 16, 16),
        image_sizes=torch.tensor([[16, 16]]),
    )


def got_ocr2() -> Case:
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
    return case(hf.GotOcr2ForConditionalGeneration(config), 34, ids, pixel_values=tiny._pixels(1, 3, 32, 32))


def ovis2() -> Case:
    config = hf.Ovis2Config(
        text_config=hf.Qwen2Config(**tiny._TEXT),
        vision_config={**CLIP, "vocab_size": 24, "hidden_stride": 2},
        image_token_id=IMAGE,
        visual_indicator_token_ids=[91, 92, 93, 94, 95],
        vocab_size=tiny.VOCABULARY,
        hidden_size=32,
    )
    ids = tiny._ids(1, 5, 92, [IMAGE] * 4, 93, 7, 9, 10)
    return case(hf.Ovis2ForConditionalGeneration(config), 35, ids, pixel_values=tiny._pixels(1, 3, 16, 16))


def janus() -> Case:
    config = hf.JanusConfig(
        text_config=llama(),
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
    return case(hf.JanusForConditionalGeneration(config), 36, ids, pixel_values=tiny._pixels(1, 3, 8, 8))


def deepseek_vl() -> Case:
    config = hf.DeepseekVLConfig(text_config=llama(), vision_config=siglip(), image_token_id=IMAGE)
    ids = tiny._ids(1, 5, [IMAGE] * 16, 7, 9, 10)
    return case(hf.DeepseekVLForConditionalGeneration(config), 37, ids, pixel_values=tiny._pixels(1, 3, 16, 16))
