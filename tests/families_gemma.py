"""Families of Gemma with prefixes that look both ways, or keys and values that layers share."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
import transformers as hf
from family_parts import END, START, VIDEO, case, siglip
from tiny import IMAGE, Case


def paligemma(text: Any, seed: int) -> Case:
    """The prompt is a prefix that looks both ways; positions start at one."""
    config = hf.PaliGemmaConfig(
        text_config=text, vision_config=siglip(), projection_dim=32, image_token_index=IMAGE, hidden_size=32
    )
    ids = tiny._ids([IMAGE] * 16, 1, 5, 7, 9, 10)
    kinds = torch.zeros_like(ids)
    # As the processor has it: labels for training come with every prompt.
    return case(
        hf.PaliGemmaForConditionalGeneration(config),
        seed,
        ids,
        token_type_ids=kinds,
        labels=torch.full_like(ids, -100),
        pixel_values=tiny._pixels(1, 3, 16, 16),
    )


def paligemma_1() -> Case:
    return paligemma(hf.GemmaConfig(**tiny._TEXT, head_dim=8), 21)


def paligemma_2() -> Case:
    text = {**tiny._TEXT, "num_hidden_layers": 6}
    return paligemma(hf.Gemma2Config(**text, head_dim=8, sliding_window=12, query_pre_attn_scalar=8), 22)


def gemma4() -> Case:
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
    return case(
        hf.Gemma4ForConditionalGeneration(config),
        45,
        ids,
        pixel_values=tiny._pixels(1, 16, 3 * 4 * 4),
        image_position_ids=places,
        mm_token_type_ids=(ids == IMAGE).long(),
    )


class _Tower(torch.nn.Module):
    """What Gemma 3n has timm for: pictures to a grid of features, channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 16, 4, 4)

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> Any:
        return hf.modeling_outputs.BaseModelOutputWithPooling(last_hidden_state=self.convolution(pixel_values))


def gemma3n() -> Case:
    """Several streams of states, embeddings for every layer, and upper layers with keys and values from below."""
    from transformers.models.gemma3n import modeling_gemma3n

    config = hf.Gemma3nConfig(
        text_config={
            **tiny._TEXT,
            "num_hidden_layers": 6,
            "intermediate_size": [48] * 6,
            "head_dim": 8,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
            "vocab_size_per_layer_input": 90,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
            "altup_num_inputs": 3,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.5] * 2 + [0.0] * 4,
        },
        vision_config={"hidden_size": 16, "vocab_size": 4, "vocab_offset": 89, "architecture": "resnet18"},
        audio_config={
            "hidden_size": 16,
            "vocab_size": 4,
            "vocab_offset": 93,
            "conf_num_hidden_layers": 1,
            "conf_num_attention_heads": 2,
            "sscp_conv_channel_size": [4, 4],
        },
        vision_soft_tokens_per_image=4,
        boi_token_id=START,
        eoi_token_id=END,
        image_token_id=IMAGE,
        audio_token_id=94,
    )
    build = modeling_gemma3n.AutoModel.from_config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            modeling_gemma3n.AutoModel,
            "from_config",
            lambda part: _Tower() if part is config.vision_config else build(part),
        )
        model = hf.Gemma3nForConditionalGeneration(config)
    ids = tiny._ids(1, 5, START, [IMAGE] * 4, END, 7, 9, 10)
    return case(model, 51, ids, token_type_ids=(ids == IMAGE).long(), pixel_values=tiny._pixels(1, 3, 8, 8))
