"""A box around what a token looks at in a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.chat.pictures import WHOLE, Box

_PART = 0.5


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


def box_of(looks: Tensor, seen: Box = WHOLE) -> Box | None:
    """The box around the patches that touch the strongest and have at least half of its strength.

    Args:
        looks: ``[I]`` saliency of each patch of a square grid, row by row.
        seen: the part of the picture that the grid is of.

    Returns:
        None where the patches are no square, or nothing is looked at.
    """
    side = round(len(looks) ** 0.5)
    if side * side != len(looks) or not side or not bool(torch.isfinite(looks).all()) or not float(looks.max()) > 0.0:
        return None
    best = int(looks.argmax())
    marked = (looks >= _PART * looks.max()).view(side, side)
    around = next(part for part in blobs(marked) if best in part)
    rows, columns = [patch // side for patch in around], [patch % side for patch in around]
    left, top, right, bottom = seen
    return (
        left + (right - left) * min(columns) / side,
        top + (bottom - top) * min(rows) / side,
        left + (right - left) * (max(columns) + 1) / side,
        top + (bottom - top) * (max(rows) + 1) / side,
    )
