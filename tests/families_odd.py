"""Families that do something else than all others with positions, masks, caches or pictures."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
import transformers as hf
from family_parts import CLIP, END, START, VIDEO, case, siglip
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


def kosmos2_5() -> Case:
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
    return case(
        hf.Kosmos2_5ForConditionalGeneration(config),
        38,
        ids,
        flattened_patches=patches,
        image_embeds_position_mask=(ids == 4).long(),
    )


def kosmos2() -> Case:
    config = hf.Kosmos2Config(
        text_config={
            "vocab_size": tiny.VOCABULARY,
            "embed_dim": 32,
            "layers": 5,
            "ffn_dim": 48,
            "attention_heads": 4,
            "max_position_embeddings": 64,
        },
        vision_config=CLIP,
        latent_query_num=4,
    )
    ids = tiny._ids(5, 92, [4] * 4, 93, 7, 9, 10)
    return case(
        hf.Kosmos2ForConditionalGeneration(config),
        39,
        ids,
        pixel_values=tiny._pixels(1, 3, 16, 16),
        image_embeds_position_mask=(ids == 4).long(),
    )


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


def fuyu() -> Case:
    """Patches go straight into the decoder; a token ends each of their rows."""
    config = hf.FuyuConfig(
        text_config={"model_type": "persimmon", **tiny._TEXT, "num_key_value_heads": 4, "qk_layernorm": True},
        patch_size=2,
        num_channels=3,
        image_token_id=IMAGE,
    )
    ids = tiny._ids([IMAGE] * 3, 91, [IMAGE] * 3, 91, 1, 7, 9, 10)
    return case(hf.FuyuForCausalLM(config), 52, ids, pixel_values=tiny._pixels(1, 6, 12))


def phi4_multimodal() -> Case:
    """The tower is inside of the decoder, and has the token of pictures in its own configuration."""
    config = hf.Phi4MultimodalConfig(
        **tiny._TEXT,
        vision_config={**CLIP, "crop_size": 16, "image_token_id": IMAGE, "feature_layer": -2},
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16,
            "nemo_conv_channels": 8,
            "input_size": 16,
            "audio_token_id": 94,
        },
    )
    # 2 by 2 of a tile and of the whole, a separator at the end of each row, one between the two.
    ids = tiny._ids(1, 5, [IMAGE] * 13, 7, 9, 10)
    return case(
        hf.Phi4MultimodalForCausalLM(config),
        53,
        ids,
        image_pixel_values=tiny._pixels(1, 2, 3, 16, 16),
        image_sizes=torch.tensor([[16, 16]]),
        image_attention_mask=torch.ones(1, 2, 4, 4, dtype=torch.long),
    )


def llama4() -> Case:
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
    return case(hf.Llama4ForConditionalGeneration(config), 46, ids, pixel_values=tiny._pixels(1, 3, 16, 16))


def molmo2() -> Case:
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
    return case(
        hf.Molmo2ForConditionalGeneration(config),
        47,
        ids,
        pixel_values=tiny._pixels(1, 16, 3 * 4 * 4),
        image_token_pooling=torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]),
        image_grids=torch.tensor([[2, 2, 0, 0]]),
        image_num_crops=torch.tensor([1]),
        mm_token_type_ids=(ids == IMAGE).long(),
    )


def chameleon() -> Case:
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
    return case(hf.ChameleonForConditionalGeneration(config), 48, ids, pixel_values=tiny._pixels(1, 3, 8, 8))


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
