"""The rows of answers that predict their tokens, run side by side in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from saliency_guard.chat.layout import OUTPUT
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.session import Chunk, Session
from saliency_guard.saliency.scoring import SCORED_TOGETHER

SOURCES = ("image", "text", "output")
"""The kinds of source along the last dimension of a trace's per-head numbers."""

_ROWS = SCORED_TOGETHER + 1  # An answer of as many tokens as are scored together is one piece.
_MOST_BYTES = 2**24
"""Attention of one layer and piece of a batch: the system takes long to give larger tensors their memory."""


def chunks(
    sessions: Sequence[Session],
    padded: Tensor,
    *,
    layers: tuple[int, ...] | None = None,
    with_states: bool = False,
) -> Iterator[tuple[int, Chunk]]:
    """The rows from the last prompt token on, in pieces of even size; each with its first row's index.

    Where rows of one pass would mix (recurrent layers), a piece is one row.

    Args:
        sessions: the prompts; what they were continued with is forgotten.
        padded: ``[B, n]`` answers; row t of the pass is the query that predicts token t.
        layers: as for `Session.run`.
        with_states: as for `Session.run`.
    """
    for session in sessions:
        session.crop(session.prompt_length - 1)
    fed = [[session.last_prompt_token, *row[:-1]] for session, row in zip(sessions, padded.tolist(), strict=True)]
    batch = Batch(sessions) if len(sessions) > 1 else None
    count = padded.shape[1]
    keys = max(session.prompt_length for session in sessions) + count
    heads = sessions[0].model.config.get_text_config().num_attention_heads
    parts = math.ceil(4 * len(sessions) * heads * count * keys / _MOST_BYTES)
    pieces = max(math.ceil(count / _ROWS), min(parts, len(sessions)))  # A single answer is one for speed.
    size = math.ceil(count / pieces) if sessions[0].croppable else 1
    for start in range(0, count, size):
        piece = [row[start : start + size] for row in fed]
        if batch is None:
            yield start, sessions[0].run(piece[0], layers=layers, with_states=with_states)
        else:
            yield start, batch.run(piece, layers=layers, with_states=with_states)


def padded(answers: Sequence[Tensor]) -> Tensor:
    """``[B, longest + 1]``: what stands after the end of an answer is seen by nothing before it."""
    longest = max(map(len, answers)) + 1
    return torch.stack([functional.pad(answer, (0, longest - len(answer))) for answer in answers])


def paddings(sessions: Sequence[Session]) -> list[int]:
    """What stands before each prompt's first position where they are lined up at their ends."""
    longest = max(session.prompt_length for session in sessions)
    return [longest - session.prompt_length for session in sessions]


def next_entropies(logits: Tensor) -> Tensor:
    """``[B, n]`` entropy (nats) of logits ``[B, n, V]``."""
    entropies: Tensor = torch.special.entr(logits.detach().float().softmax(dim=-1)).sum(dim=-1)
    return entropies


def batched(logits: Tensor) -> Tensor:
    """``[B, n, V]``, of one answer, too."""
    return logits if logits.ndim > 2 else logits[None]


def masks(sessions: Sequence[Session], before: Sequence[int], chunk: Chunk) -> Tensor:
    """``[B, K, 3]`` which key is image, text or output, for all keys of a chunk: first those only seen across."""
    length = sessions[0].layout.beside + chunk.first_query + chunk.rows
    masks = torch.zeros(len(sessions), length, len(SOURCES))
    for number, (session, first) in enumerate(zip(sessions, before, strict=True)):
        layout = session.layout
        owner = layout.masks(length - first)
        image = owner[[name in layout.visual_sources for name in layout.sources]].any(dim=0)
        output = owner[layout.sources.index(OUTPUT)]
        masks[number, first:] = torch.stack([image, ~image & ~output, output], dim=1).float()
    return masks
