"""What a model would say next after several prompts that begin alike: read side by side, their common part once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from saliency_guard.chat.layout import PromptLayout
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.forward import without_gradients
from saliency_guard.models.session import Session


def next_logits(
    base: Session, prompts: Sequence[tuple[Mapping[str, Any], PromptLayout]], *, batch_size: int = 8
) -> list[Tensor]:
    """The logits after each of several prompts; nothing is generated, and ``base`` stays as it is.

    Args:
        base: a prompt that was read; what another prompt shares with it, its pictures included, is not read again.
        prompts: inputs (without padding) and layout of each.
        batch_size: how many are read side by side.

    Returns:
        ``[V]`` of each.
    """
    logits: list[Tensor | None] = [None] * len(prompts)
    shared: list[tuple[int, int]] = []
    with without_gradients():
        for number, (inputs, layout) in enumerate(prompts):
            start = base.shared_length(inputs, layout)
            if start is None:
                session = Session(base.model, inputs, layout=layout)
                logits[number] = session.run([session.last_prompt_token]).logits[-1]
            else:
                shared.append((number, start))
        for first in range(0, len(shared), batch_size):
            part = shared[first : first + batch_size]
            start = min(begins for _, begins in part)
            tails = [prompts[number][0]["input_ids"][0, start:].tolist() for number, _ in part]
            for (number, _), row in zip(part, _side_by_side(base, start, tails), strict=True):
                logits[number] = row
    return [row for row in logits if row is not None]


def _side_by_side(base: Session, start: int, tails: Sequence[list[int]]) -> list[Tensor]:
    sessions = [base.fork(locore=None, layout=base.layout) for _ in tails]
    for session in sessions:
        session.keep_states(None)
        session.crop(start)
    width = max(map(len, tails))
    # What stands behind a prompt's end is not seen from it.
    padded = [tail + tail[-1:] * (width - len(tail)) for tail in tails]
    logits = Batch(sessions).run(padded).logits
    rows = logits if logits.ndim > 2 else logits[None]
    last = torch.tensor([len(tail) - 1 for tail in tails], device=rows.device)
    return list(rows[torch.arange(len(tails), device=rows.device), last])
