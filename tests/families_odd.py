"""Families that do something else than all others with positions, masks, caches or pictures."""

from __future__ import annotations

import tiny
import torch
import transformers as hf
from family_parts import CLIP, END, START, case
from tiny import IMAGE, Case


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
