"""A box around what a token looks at in a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_guard.chat.pictures import Box

_TOUCHING = 1e-3


def blobs(marked: Tensor) -> list[list[int]]:
    """The parts of a square of marked patches that touch along an edge.

    Args:
        marked: ``[side, side]`` bool.

    Returns:
        Flat indices of each part.
    """
    side = marked.shape[0]
    left = set(marked.flatten().nonzero()[:, 0].tolist())
    parts: list[list[int]] = []
    while left:
        todo, part = [left.pop()], []
        while todo:
            patch = todo.pop()
            part.append(patch)
            row, column = divmod(patch, side)
            near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            beside = {a * side + b for a, b in near if 0 <= a < side and 0 <= b < side} & left
            left -= beside
            todo += sorted(beside)
        parts.append(sorted(part))
    return sorted(parts)


def box_of(looks: Tensor, patches: Sequence[Box | None], *, part: float = 0.5) -> Box | None:
    """The box around the patches that touch the strongest and have at least a part of its strength.

    Args:
        looks: ``[I]`` how much each position of a picture is looked at.
        patches: the part of the picture that each position shows.
        part: of the strongest.

    Returns:
        None where nothing is looked at.
    """
    known = torch.tensor([patch is not None for patch in patches], dtype=torch.bool)
    values = torch.where(known, looks, 0.0)
    if not known.any() or not bool(torch.isfinite(values).all()) or not float(values.max()) > 0.0:
        return None
    marked = {
        index: patch
        for index, patch in enumerate(patches)
        if patch is not None and float(values[index]) >= part * float(values.max())
    }
    todo = [int(values.argmax())]
    around = [marked.pop(todo[0])]
    while todo:
        patch = patches[todo.pop()]
        beside = [index for index, other in marked.items() if patch is not None and _touch(patch, other)]
        around += [marked.pop(index) for index in beside]
        todo += beside
    lefts, tops, rights, bottoms = zip(*around, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _touch(patch: Box, other: Box) -> bool:
    """Whether two patches share more than a corner."""
    across = min(patch[2], other[2]) - max(patch[0], other[0])
    down = min(patch[3], other[3]) - max(patch[1], other[1])
    return min(across, down) > -_TOUCHING and max(across, down) > _TOUCHING
