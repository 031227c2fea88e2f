"""The language model where only some positions count: its last layer is run for them alone.

Prompts are three quarters of a batch, and nothing is learnt from what the last layer makes of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import LlamaModel, apply_rotary_pos_emb

FLOAT32_ATTENTION = "float32_sdpa"


def float32_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention outside autocast: on a CPU its backward pass in bfloat16 takes twice the time of float32."""
    with torch.autocast(query.device.type, enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output, None


AttentionInterface.register(FLOAT32_ATTENTION, float32_attention)


def states(
    model: LlamaModel, embeds: Tensor, mask: Tensor, position_ids: Tensor, wanted: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Last hidden states ``[N, width]`` of the ``N`` wanted positions; all ``[B, T, width]`` of each layer before.

    Args:
        model: the language model.
        embeds: ``[B, T, width]``.
        mask: ``[B, 1, T, T]``, added to the scores.
        position_ids: ``[B, T]``.
        wanted: ``[B, T]`` bool.
    """
    cos, sin = model.rotary_emb(embeds, position_ids=position_ids)
    hidden, below = embeds, []
    for layer in model.layers[:-1]:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=(cos, sin), position_ids=position_ids)
        below.append(hidden)
    last: Any = model.layers[-1]
    rows, columns = wanted.nonzero(as_tuple=True)
    slots = (wanted.cumsum(1) - 1)[rows, columns]
    places = torch.zeros(len(wanted), int(slots.max()) + 1, dtype=torch.long, device=wanted.device)
    places[rows, slots] = columns

    def at_places(values: Tensor) -> Tensor:
        return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))

    read = last.input_layernorm(hidden)
    attention = last.self_attn
    query, key, value = (
        projected.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for projected in (attention.q_proj(at_places(read)), attention.k_proj(read), attention.v_proj(read))
    )
    query, _ = apply_rotary_pos_emb(query, query, at_places(cos), at_places(sin))
    key, _ = apply_rotary_pos_emb(key, key, cos, sin)
    with torch.autocast(mask.device.type, enabled=False):
        seen = functional.scaled_dot_product_attention(
            query.float(),
            key.float(),
            value.float(),
            attn_mask=mask.gather(2, places[:, None, :, None].expand(-1, -1, -1, mask.shape[-1])),
            scale=attention.scaling,
            enable_gqa=True,
        )
    kept = at_places(hidden) + attention.o_proj(seen.transpose(1, 2).flatten(2))
    kept = kept + last.mlp(last.post_attention_layernorm(kept))
    normed: Tensor = model.norm(kept[rows, slots])
    return normed, below
