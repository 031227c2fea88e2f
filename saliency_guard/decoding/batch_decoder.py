"""Several answers written, or scored, side by side: the loops over a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from saliency_guard.decoding.decoder import DecodedToken, Decoder, Draft
from saliency_guard.decoding.draft_length import UNGUARDED_DRAFT
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.forward import without_gradients
from saliency_guard.saliency.equations import token_rows


class Row:
    """One answer of a batch: its decoder, how many tokens it may have, and whether it has all it is to have."""

    def __init__(self, decoder: Decoder, room: int) -> None:
        self.decoder = decoder
        self.room = room
        self.done = False

    @property
    def left(self) -> int:
        """How many tokens may follow."""
        return 0 if self.done or self.decoder.ended else self.room - self.decoder.written


def decode_together(rows: Sequence[Row]) -> Iterator[tuple[int, list[DecodedToken]]]:
    """Accepted tokens of several answers, each as it would be written alone.

    Gives out the index of a row and its newest tokens. Who has seen enough of a row sets its ``done``; a row
    that is done takes no further part. The model is untouched whenever something is given out.
    """
    for row in rows:
        row.decoder.begin()
    while running := [index for index, row in enumerate(rows) if row.left > 0]:
        yield from _round(rows, running)


def _round(rows: Sequence[Row], running: list[int]) -> list[tuple[int, list[DecodedToken]]]:
    decoders = [rows[index].decoder for index in running]
    with without_gradients():
        if len(running) == 1 or not decoders[0].session.croppable:
            return [(index, rows[index].decoder.round(rows[index].left)) for index in running]
        rooms = [rows[index].left for index in running]
        scored = decoders[0].layers
        wanted = min(decoder.length() for decoder in decoders) if scored is not None else UNGUARDED_DRAFT
        count = min(wanted, max(rooms))
        batch = Batch([decoder.session for decoder in decoders])
        drafts: list[list[Draft]] = [[] for _ in running]
        for _ in range(count):
            fed = [own[-1].token if own else decoder.pending for own, decoder in zip(drafts, decoders, strict=True)]
            logits = batch.run([[token] for token in fed]).logits[:, -1]
            for own, decoder, scores in zip(drafts, decoders, logits, strict=True):
                own.append(decoder.draft(scores, own))
        chosen = [_used(own, decoder, room) for own, decoder, room in zip(drafts, decoders, rooms, strict=True)]
        found: list[Tensor | None] = [None] * len(running)
        if scored is not None:
            drawn = torch.tensor([[draft.token for draft in own] for own in drafts])
            together = token_rows(batch.rescore(layers=scored), drawn)
            used = [(own, len(kept), before) for own, kept, before in zip(together, chosen, batch.padding, strict=True)]
            found = [own[:count, before:] for own, count, before in used]
        batch.hand_back()
        return [
            (index, decoder.accept(own, seen))
            for index, decoder, own, seen in zip(running, decoders, chosen, found, strict=True)
        ]


def _used(drafts: list[Draft], decoder: Decoder, room: int) -> list[Draft]:
    """The drafts up to the end of the answer."""
    end = next((place + 1 for place, draft in enumerate(drafts) if draft.token in decoder.eos), len(drafts))
    return drafts[: min(end, room)]
