"""Where each token looks in the pictures, patch by patch: one more pass over the answer, for the signals that ask."""

from __future__ import annotations

import torch
from torch import Tensor

from saliency_guard.models.layers import attention_layers
from saliency_guard.models.session import Session
from saliency_guard.saliency.scoring import SCORED_TOGETHER


def attention_on_pictures(session: Session, answer: Tensor) -> Tensor:
    """``[N, L, I]`` attention of the row that predicts each token on every picture position, mean over heads.

    Zeros for layers that do not look along the sequence.

    Args:
        session: the prompt, read; it stays as it is.
        answer: ``[N]`` ids.
    """
    layers = attention_layers(session.model)
    positions = session.layout.image_positions
    twin = session.fork(locore=session.locore, layout=session.layout)
    parts: list[Tensor] = []
    for chunk in twin.run_pieces(answer, SCORED_TOGETHER, layers=layers):
        assert chunk.tape is not None  # noqa: S101 - layers were asked for
        rows = torch.zeros(chunk.rows, len(layers), len(positions))
        for index, layer in enumerate(layers):
            record = chunk.tape.records.get(layer)
            if record is not None and not record.across:
                weights = record.weights.detach()[0].mean(dim=0).float().cpu()  # [n, K]
                rows[:, index] = weights[:, positions.cpu()]
        parts.append(rows)
    return torch.cat(parts)


def picture_grids(sources: list[str]) -> list[tuple[int, int]] | None:
    """First position and side of each picture whose positions are a square, in order; None where one's are not.

    Args:
        sources: the source of every picture position, in order.
    """
    grids: list[tuple[int, int]] = []
    start = 0
    for index in range(1, len(sources) + 1):
        if index == len(sources) or sources[index] != sources[start]:
            side = round((index - start) ** 0.5)
            if side * side != index - start:
                return None
            grids.append((start, side))
            start = index
    return grids
