"""Pictures of the full matrices. Needs the extra ``plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saliency_guard.errors import ConfigError
from saliency_guard.figures import INK, new_figure

if TYPE_CHECKING:
    from saliency_guard.saliency.maps import SaliencyMap

_COLOURS = "cividis"  # Even in brightness, and the same to colour-blind eyes.


def plot_map(shown: SaliencyMap, layer: int | None, head: int | None) -> Any:
    """See `SaliencyMap.plot`."""
    values = _chosen(shown, layer, head).detach().float().cpu()
    figure, (axis,) = new_figure(6.2, 5.4)
    # By the square root, or the few large values would be all there is to see.
    drawn = axis.imshow(values.sqrt().numpy(), cmap=_COLOURS, interpolation="nearest")
    borders = _borders(shown)
    for border in [place for place, _ in borders][1:]:
        axis.axhline(border - 0.5, color="white", linewidth=0.6)
        axis.axvline(border - 0.5, color="white", linewidth=0.6)
    stops = [*[place for place, _ in borders][1:], len(values)]
    middles = [(start + stop) / 2 for (start, _), stop in zip(borders, stops, strict=True)]
    axis.set_xticks(middles, [name for _, name in borders], rotation=30, ha="right", fontsize=8)
    axis.set_yticks(middles, [name for _, name in borders], fontsize=8)
    where = "all target layers" if layer is None else f"layer {layer}"
    axis.set_title(f"Saliency, {where}" + ("" if head is None else f", head {head}"), fontsize=10)
    axis.set_xlabel("looked at")
    axis.set_ylabel("from")
    figure.colorbar(drawn, ax=axis, label="square root of the saliency", shrink=0.85)
    return figure


def plot_heads(shown: SaliencyMap, source: str) -> Any:
    """See `SaliencyMap.plot_heads`."""
    sources = shown.layout.sources
    if source not in sources:
        msg = f"there is no source {source!r} here: choose {', '.join(sources)}"
        raise ConfigError(msg)
    rows = shown.saliency[:, :, -1].detach().float().cpu()  # [layers, H, T] of the row that predicts the target
    mask = shown.layout.masks(shown.layout.beside + rows.shape[-1])[sources.index(source), shown.layout.beside :]
    shares = (rows[..., mask].sum(-1) / rows.sum(-1).clamp_min(torch.finfo(rows.dtype).tiny)).numpy()
    layers, heads = shares.shape
    figure, (axis,) = new_figure(1.6 + 0.42 * max(heads, 6), 1.4 + 0.34 * max(layers, 4))
    drawn = axis.imshow(shares, cmap=_COLOURS, vmin=0.0, vmax=1.0, aspect="auto")
    axis.set_yticks(range(layers), [str(layer) for layer in shown.layers])
    axis.set_xticks(range(heads))
    axis.set_xlabel("head")
    axis.set_ylabel("layer")
    axis.set_title(f"Share of saliency on {source}", fontsize=10, color=INK)
    figure.colorbar(drawn, ax=axis)
    return figure


def _chosen(shown: SaliencyMap, layer: int | None, head: int | None) -> Tensor:
    if layer is None:
        if head is not None:
            msg = f"say which layer head {head} is of: one of {', '.join(map(str, shown.layers))}"
            raise ConfigError(msg)
        return shown.normalized.mean(dim=0)
    if layer not in shown.layers:
        msg = f"layer {layer} is not in this map: it has {', '.join(map(str, shown.layers))}"
        raise ConfigError(msg)
    index = shown.layers.index(layer)
    if head is None:
        return shown.normalized[index]
    if not 0 <= head < shown.saliency.shape[1]:
        msg = f"layer {layer} has no head {head}: there are {shown.saliency.shape[1]}, from 0 on"
        raise ConfigError(msg)
    return shown.saliency[index, head]


def _borders(shown: SaliencyMap) -> list[tuple[int, str]]:
    """Where the runs of each source begin, with its name, along the sequence."""
    length = shown.normalized.shape[-1]
    layout = shown.layout
    owners = layout.masks(layout.beside + length)[:, layout.beside :].int().argmax(dim=0).tolist()
    starts = [0, *(index for index in range(1, length) if owners[index] != owners[index - 1])]
    return [(start, layout.sources[owners[start]]) for start in starts]
