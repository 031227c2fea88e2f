"""How much memory a model takes, computed from what it is made of: its weights need not be there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from saliency_guard.models.layer_choice import LayerChoice
from saliency_guard.models.layers import across_layers, attention_layers, target_layers

GIB = 2**30
SCORED_ROWS = 65
"""Rows of one scored piece of an answer; `SCORED_TOGETHER` of `saliency_guard.saliency.scoring` and one."""
_HALF = 2
_SINGLE = 4
_INT8, _NF4 = 1.0, 0.5 + 4 / 64
"""Bytes of a weight: bitsandbytes' nf4 keeps a float for every block of 64."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model takes, in GiB.

    Attributes:
        parameters: how many there are.
        bfloat16: of all weights in two bytes each.
        int8: where the linear layers have one byte a weight, and the rest two; the head stays as it is.
        nf4: where the linear layers have four bits a weight and a scale for every 64.
        cache: keys and values of 1,000 positions in bfloat16.
        attention: what a scoring of 64 tokens keeps for the gradients: rows of attention over 1,000 positions, of every
            target layer, in float32.
    """

    parameters: int
    bfloat16: float
    int8: float
    nf4: float
    cache: float
    attention: float


def memory_of(model: PreTrainedModel, layers: LayerChoice | None) -> Memory:
    """What a model takes; it may be on the device ``meta``.

    Args:
        model: as it was made from its configuration.
        layers: the target layers of scoring.
    """
    head = model.get_output_embeddings()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    linear = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    small = sum(module.weight.numel() for module in linear)
    scales = sum(module.out_features for module in linear)
    rest = _HALF * (parameters - small)
    text = model.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    along = set(attention_layers(model)) - across_layers(text)
    targets = set(target_layers(model, layers)) & along
    return Memory(
        parameters=parameters,
        bfloat16=_HALF * parameters / GIB,
        int8=(_INT8 * small + _SINGLE * scales + rest) / GIB,
        nf4=(_NF4 * small + rest) / GIB,
        cache=2 * len(along) * heads * width * 1000 * _HALF / GIB,
        attention=len(targets) * text.num_attention_heads * SCORED_ROWS * 1000 * _SINGLE / GIB,
    )
