"""Families that look at pictures through cross-attention or a model of its own: some are read, some are refused."""

from __future__ import annotations

import tiny
import torch
import transformers as hf
from family_parts import CLIP, case
from tiny import IMAGE, Case


def mllama() -> Case:
    """Every other layer looks at the picture across, and none at it along the sequence."""
    ids = tiny._ids(IMAGE, 1, 5, 7, 9, 10)
    return _mllama(ids, tiles=1, pictures=1, seen=torch.ones(1, len(ids[0]), 1, 1, dtype=torch.long))


def mllama_two() -> Case:
    """Two pictures of one tile and of two, as the processor has it: the first tokens see none, the next the first."""
    ids = tiny._ids(1, 5, IMAGE, IMAGE, 7, 9, 10)
    seen = torch.zeros(1, len(ids[0]), 2, 2, dtype=torch.long)
    seen[:, 2:, 0, :1] = 1
    seen[:, 3:, 1] = 1
    return _mllama(ids, tiles=2, pictures=2, seen=seen)


def _mllama(ids: torch.Tensor, *, tiles: int, pictures: int, seen: torch.Tensor) -> Case:
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
            "max_num_tiles": tiles,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1], [1, 2]][:tiles],
        },
        image_token_index=IMAGE,
    )
    return case(
        hf.MllamaForConditionalGeneration(config),
        43,
        ids,
        pixel_values=tiny._pixels(1, pictures, tiles, 3, 8, 8),
        aspect_ratio_ids=torch.arange(1, pictures + 1)[None],
        aspect_ratio_mask=(torch.arange(tiles) <= torch.arange(pictures)[:, None]).long()[None],
        cross_attention_mask=seen,
    )


def blip2() -> Case:
    config = hf.Blip2Config(
        vision_config=CLIP,
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
    return case(hf.Blip2ForConditionalGeneration(config), 49, ids, pixel_values=tiny._pixels(1, 3, 16, 16))


def idefics() -> Case:
    config = hf.IdeficsConfig(
        vocab_size=tiny.VOCABULARY,
        additional_vocab_size=0,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        cross_layer_interval=2,
        vision_config={"embed_dim": 16, **CLIP},
    )
    ids = tiny._ids(1, 5, 7, 9, 10)
    return case(
        hf.IdeficsForVisionText2Text(config),
        50,
        ids,
        pixel_values=tiny._pixels(1, 1, 3, 16, 16),
        image_attention_mask=torch.ones(1, 5, 1, dtype=torch.long),
    )
