"""Where in a picture each of its positions in the prompt lies, for the tiles and grids of every family.

An image processor is shown a picture of the same size whose colours are its coordinates: what comes out says which
part of the picture each tile or patch was cut from, whatever the processor resizes, crops, pads or splits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saliency_guard.chat.pictures import Box

Boxes = tuple[Box | None, ...]
"""Of the positions of a picture, in order; None for one that shows no part of it (padding, the end of a row)."""

_WRONG = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions of image processors that take other settings, or return something else."""

_FULL = 255.0
_PADDED = 0.5  # A cell with less of the picture than this shows none of it.


def patch_boxes(processor: Any, config: Any, size: tuple[int, int], count: int) -> Boxes | None:
    """The part of a picture that each of its positions shows.

    Args:
        processor: the model's, or an image processor alone.
        config: the model's.
        size: width and height of the picture.
        count: how many positions it takes.

    Returns:
        None where it is not known how this processor's output becomes positions.
    """
    images = getattr(processor, "image_processor", processor)
    if images is None or count < 1:
        return None
    settings = {**_handed_on(processor), "do_normalize": False, "do_rescale": False}
    try:
        made = images(images=[_coordinates(size)], **settings, return_tensors="pt")
        boxes = _read(config, size, count, dict(made))
    except _WRONG:
        return None
    if boxes is None or len(boxes) != count or not any(boxes):
        return None
    return tuple(None if box is None else _rounded(box) for box in boxes)


def _rounded(box: Box) -> Box:
    """Colours of 256 steps tell no more than this of where an edge is."""
    left, top, right, bottom = (round(edge, 3) for edge in box)
    return left, top, right, bottom


def _handed_on(processor: Any) -> Mapping[str, Any]:
    """Settings that a processor hands to its image processor, which are not always that one's own defaults."""
    module = sys.modules.get(type(processor).__module__)
    names = vars(module) if module is not None else {}  # Asked itself, it may warn of names that are no more.
    earlier = getattr(names.get(f"{type(processor).__name__}Kwargs"), "_defaults", {}).get("images_kwargs", {})
    now = getattr(processor, "images_kwargs", {})
    return {**earlier, **(now if isinstance(now, Mapping) else {})}


def _coordinates(size: tuple[int, int]) -> Image.Image:
    """A picture whose red says how far right, whose green says how far down; blue is full, which padding is not."""
    width, height = size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.round((np.arange(width) + 0.5) / width * _FULL)
    pixels[..., 1] = np.round((np.arange(height) + 0.5) / height * _FULL)[:, None]
    pixels[..., 2] = _FULL
    return Image.fromarray(pixels)


def _read(config: Any, size: tuple[int, int], count: int, made: Mapping[str, Any]) -> Boxes | None:
    pixels = made.get("pixel_values")
    if not isinstance(pixels, Tensor):
        return None
    grid = made.get("image_grid_thw")
    if grid is not None:
        return _of_patches(config, pixels, [int(number) for number in grid[0]])
    tiles = pixels.float().reshape(-1, *pixels.shape[-3:])
    if tiles.shape[1] != 3:
        return None
    if "image_sizes" in made and getattr(config, "image_grid_pinpoints", None):
        return _of_base_and_grid(config, size, count, tiles)
    if count % len(tiles):
        return None
    return tuple(box for tile in tiles for box in _of_tile(tile, count // len(tiles)) or ())


def _of_tile(tile: Tensor, count: int) -> list[Box | None] | None:
    """Of a tile whose positions go row by row; None where they are no grid of it.

    Args:
        tile: ``[3, H, W]`` coordinates.
        count: of positions.
    """
    height, width = tile.shape[-2:]
    pitch = math.sqrt(height * width / count)
    rows, columns = round(height / pitch), round(width / pitch)
    if rows * columns != count:
        return None
    return _cells(tile, rows, columns)


def _cells(tile: Tensor, rows: int, columns: int) -> list[Box | None]:
    """The boxes of a tile's cells, row by row."""
    down = np.linspace(0, tile.shape[-2], rows + 1)
    across = np.linspace(0, tile.shape[-1], columns + 1)
    shown = tile[2] > _FULL / 2
    x = _edges(tile[0], shown, across, axis=1)
    y = _edges(tile[1], shown, down, axis=0)
    return [
        None if x[column] is None or y[row] is None else (x[column][0], y[row][0], x[column][1], y[row][1])
        for row in range(rows)
        for column in range(columns)
    ]


def _edges(values: Tensor, shown: Tensor, edges: Any, *, axis: int) -> list[Any]:
    """The range of a coordinate in each cell along an axis; None for cells that are mostly padding.

    A coordinate is linear along its axis, so a line through what is shown gives it at every edge.
    """
    length = values.shape[axis]
    along = shown.any(dim=1 - axis)
    if not bool(along.any()):
        return [None] * (len(edges) - 1)
    weights = shown.float()
    means = (values * weights).sum(dim=1 - axis) / weights.sum(dim=1 - axis).clamp(min=1)
    places = torch.arange(length)[along].numpy() + 0.5
    known = means[along].numpy() / _FULL
    if len(places) < 2:
        return [None] * (len(edges) - 1)
    slope, start = np.polyfit(places, known, 1)
    first, last = places[0] - 0.5, places[-1] + 0.5
    cells: list[Any] = []
    for low, high in pairwise(edges):
        inside = max(0.0, min(high, last) - max(low, first))
        if inside < _PADDED * (high - low):
            cells.append(None)
            continue
        ends = (float(np.clip(start + slope * edge, 0.0, 1.0)) for edge in (low, high))
        cells.append(tuple(ends))
    return cells


def _of_patches(config: Any, pixels: Tensor, grid: list[int]) -> Boxes | None:
    """Of patches that are one vector each (Qwen2-VL and its relatives); squares of them are one position.

    Args:
        config: the model's.
        pixels: ``[P, D]`` or ``[P, 3, h, w]`` coordinates.
        grid: frames, rows and columns of patches.
    """
    frames, rows, columns = grid
    vision = getattr(config, "vision_config", None)
    merge = getattr(vision, "spatial_merge_size", None) or getattr(config, "spatial_merge_size", None) or 1
    if frames != 1 or rows % merge or columns % merge or len(pixels) != rows * columns:
        return None
    means = pixels.float().reshape(len(pixels), 3, -1).mean(dim=-1) / _FULL
    squares = (rows // merge, columns // merge)
    together = means.view(-1, merge * merge, 3)
    spread = (together[..., :2].amax(dim=1) - together[..., :2].amin(dim=1)).max()
    if merge > 1 and float(spread) > 1.5 * merge / min(rows, columns):  # Row by row, put together later.
        by_rows = means.view(rows // merge, merge, columns // merge, merge, 3)
        together = by_rows.permute(0, 2, 1, 3, 4).reshape(-1, merge * merge, 3)
    centres = together.mean(dim=1)
    half = (0.5 / squares[1], 0.5 / squares[0])
    return tuple(
        (max(0.0, x - half[0]), max(0.0, y - half[1]), min(1.0, x + half[0]), min(1.0, y + half[1]))
        for x, y, _ in centres.tolist()
    )


def _of_base_and_grid(config: Any, size: tuple[int, int], count: int, tiles: Tensor) -> Boxes | None:
    """LLaVA-NeXT and LLaVA-OneVision: the whole picture small, then the rows of the large one, each with an end.

    Args:
        config: the model's.
        size: width and height of the picture.
        count: of positions.
        tiles: ``[1 + tiles, 3, H, W]`` coordinates; the small picture is first.
    """
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    base = _of_tile(tiles[0], side * side)
    shape = _tile_rows(tiles[1:])
    if base is None or shape is None:
        return None
    rows, columns = _unpadded(size, (shape[0] * side, shape[1] * side))
    largest = str(getattr(config, "vision_aspect_ratio", "")).partition("max_")[2]
    if largest:
        ratio = math.sqrt(rows * columns / (int(largest) * side**2))
        if ratio > 1.1:
            rows, columns = int(rows // ratio), int(columns // ratio)
    if side * side + rows * (columns + 1) != count:
        return None
    large: list[Box | None] = []
    for row in range(rows):
        large += [(column / columns, row / rows, (column + 1) / columns, (row + 1) / rows) for column in range(columns)]
        large.append(None)  # The end of the row.
    return (*base, *large)


def _tile_rows(tiles: Tensor) -> tuple[int, int] | None:
    """Rows and columns of tiles that show a padded picture, by where each begins."""
    if not len(tiles):
        return None
    lefts = [_middle(tile, 0) for tile in tiles]
    for columns in range(1, len(tiles) + 1):
        if len(tiles) % columns == 0 and all(
            math.isclose(lefts[index], lefts[index % columns], abs_tol=0.02) for index in range(len(tiles))
        ):
            first = lefts[:columns]
            if all(left < right for left, right in pairwise(first)):
                return len(tiles) // columns, columns
    return None


def _middle(tile: Tensor, channel: int) -> float:
    shown = tile[2] > _FULL / 2
    return float(tile[channel][shown].mean() / _FULL) if bool(shown.any()) else math.nan


def _unpadded(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that are left of a grid of patches when what pads the picture to its shape is cut off."""
    width, height = size
    rows, columns = grid
    if width / height > columns / rows:
        padding = (rows - int(round(height * columns / width, 7))) // 2
        return rows - 2 * padding, columns
    padding = (columns - int(round(width * rows / height, 7))) // 2
    return rows, columns - 2 * padding
