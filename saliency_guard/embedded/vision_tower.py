"""The embedded model's vision tower: convolutions, then two transformer layers over the grid they leave.

Drawn things look the same wherever they stand: convolutions know that from the start, where a tower of
patches has to learn it anew for every offset. Importing this module makes the tower known to
transformers' auto classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutput


class GridVisionConfig(PreTrainedConfig):
    """Shape of a `GridVisionModel`.

    Attributes:
        hidden_size: width of the grid's cells.
        channels: width after each halving of the picture but the last.
        num_hidden_layers: transformer layers over the grid.
        num_attention_heads: their heads.
        image_size: side of the pictures in pixels.
        patch_size: side of a cell in pixels, ``2 ** (len(channels) + 1)``.
    """

    model_type = "saliency_guard_grid_vision"

    hidden_size: int = 192
    channels: tuple[int, ...] | list[int] = (32, 64, 128)
    num_hidden_layers: int = 2
    num_attention_heads: int = 6
    image_size: int = 128
    patch_size: int = 16


class GridVisionModel(PreTrainedModel):
    """A picture ``[B, 3, S, S]`` as a grid of cells, ``[B, (S / patch_size) ** 2, hidden_size]``."""

    config_class = GridVisionConfig
    main_input_name = "pixel_values"
    base_model_prefix = "grid_vision"

    def __init__(self, config: GridVisionConfig) -> None:
        super().__init__(config)
        width, (first, *middle) = config.hidden_size, config.channels
        stages: list[nn.Module] = [_convolution(3, first, stride=2)]
        previous = first
        for channels in middle:
            stages += [_convolution(previous, channels, stride=2), _Residual(channels)]
            previous = channels
        stages += [_convolution(previous, width, stride=2), _Residual(width), _Residual(width)]
        self.stages = nn.Sequential(*stages)
        cells = (config.image_size // config.patch_size) ** 2
        self.position_embedding = nn.Parameter(torch.randn(cells, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                config.num_attention_heads,
                4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.num_hidden_layers)
        )
        # Positions once more at the output, so that the language model can say where things are.
        self.place_embedding = nn.Parameter(torch.zeros(cells, width))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own initialisation stands; what a checkpoint lacks of our own says nothing."""
        if isinstance(module, GridVisionModel):
            initialization.zeros_(module.place_embedding)

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """The grid of each picture, as ``last_hidden_state`` and as the only entry of ``hidden_states``."""
        cells = self.stages(pixel_values.to(self.position_embedding.dtype)).flatten(2).transpose(1, 2)
        hidden = cells + self.position_embedding
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = hidden + self.place_embedding
        return BaseModelOutput(last_hidden_state=hidden, hidden_states=(hidden,))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)  # The block starts as the identity.

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(maps + self.norm(self.second(self.first(maps))))


def _convolution(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


AutoConfig.register(GridVisionConfig.model_type, GridVisionConfig, exist_ok=True)
AutoModel.register(GridVisionConfig, GridVisionModel, exist_ok=True)
