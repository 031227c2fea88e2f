"""Several answers written, or scored, side by side: the loops over a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from saliency_guard.decoding.decoder import DecodedToken, Decoder, Draft
from saliency_guard.decoding.draft_length import UNGUARDED_DRAFT
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.fork_safety import uninterrupted
from saliency_guard.models.forward import without_gradients
from saliency_guard.saliency.equations import token_rows


class Row:
    """One answer of a batch: its decoder, the most tokens it may have, and a done flag."""

    def __init__(self, decoder: Decoder, room: int) -> None:
        self.decoder = decoder
        self.room = room
        self.done = False

    @property
    def left(self) -> int:
        """How many tokens may follow."""
        return 0 if self.done or self.decoder.ended else self.room - self.decoder.written


Outcome = list[DecodedToken] | Exception
"""The result of a round for one row: its newest tokens, or the error that ends it."""


def decode_together(rows: Sequence[Row]) -> Iterator[tuple[int, list[DecodedToken]]]:
    """Accepted tokens of several answers, each as it would be written alone.

    Yields the index of a row and its newest tokens. Set a row's ``done`` to stop it; a row that is done takes no
    further part. The model is as it was found at every yield.
    """
    for row in rows:
        row.decoder.begin()
    while running := [index for index, row in enumerate(rows) if row.left > 0]:
        for index, outcome in zip(running, decode_round([rows[index] for index in running]), strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            yield index, outcome


def fits_with(decoder: Decoder) -> tuple[object, ...]:
    """Equal for decoders whose rows one round can hold."""
    session, locore = decoder.session, decoder.session.locore
    gains = None if locore is None else (locore.layers, locore.renormalize)
    return session.joins, session.entry, decoder.layers, gains


def decode_round(rows: Sequence[Row]) -> list[Outcome]:
    """The newest tokens of rows that fit together; a row that fails fails alone.

    Args:
        rows: with room left, whose decoders have begun.
    """
    with uninterrupted(), without_gradients():
        if len(rows) == 1 or not all(row.decoder.session.joins for row in rows):
            return [_attempted(partial(row.decoder.round, row.left)) for row in rows]
        try:
            drafted = _drafted(rows)
        except Exception:  # noqa: BLE001 - whose error it is shows when each goes on alone: nobody has moved yet
            return [_attempted(partial(row.decoder.round, row.left)) for row in rows]
        return [
            _attempted(partial(row.decoder.accept, drafts, seen))
            for row, (drafts, seen) in zip(rows, drafted, strict=True)
        ]


def _attempted(work: Callable[[], list[DecodedToken]]) -> Outcome:
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - raised by who asked for this row
        return error


def _drafted(rows: Sequence[Row]) -> list[tuple[list[Draft], Tensor | None]]:
    """What each row draws next, and its predictor rows where they are scored; only the sessions have moved after it."""
    decoders = [row.decoder for row in rows]
    rooms = [row.left for row in rows]
    layers = decoders[0].layers
    batch = Batch([decoder.session for decoder in decoders])
    drafts = _draft(batch, decoders, rooms)
    used = [_used(row, decoder, room) for row, decoder, room in zip(drafts, decoders, rooms, strict=True)]
    token_rows_used: list[Tensor | None] = [None] * len(rows)
    if layers is not None:
        drawn = torch.tensor([[draft.token for draft in row] for row in drafts])
        together = token_rows(batch.rescore(layers=layers), drawn)
        kept = zip(together, used, batch.padding, strict=True)
        token_rows_used = [row[: len(drafted), before:] for row, drafted, before in kept]
    batch.hand_back()
    return list(zip(used, token_rows_used, strict=True))


def _draft(batch: Batch, decoders: Sequence[Decoder], rooms: Sequence[int]) -> list[list[Draft]]:
    """Drafts of every row, as many of each; up to the end of them all."""
    guarded = decoders[0].layers is not None
    wanted = min(decoder.length() for decoder in decoders) if guarded else UNGUARDED_DRAFT
    drafts: list[list[Draft]] = [[] for _ in decoders]
    ended = [False] * len(decoders)
    for step in range(min(wanted, max(rooms))):
        fed = [row[-1].token if row else decoder.pending for row, decoder in zip(drafts, decoders, strict=True)]
        logits = batch.run([[token] for token in fed]).logits[:, -1]
        for index, (row, decoder) in enumerate(zip(drafts, decoders, strict=True)):
            row.append(decoder.draft(logits[index], row))
            ended[index] = ended[index] or row[-1].token in decoder.eos or step + 1 >= rooms[index]
        if all(ended):
            break
    return drafts


def _used(drafts: list[Draft], decoder: Decoder, room: int) -> list[Draft]:
    """The drafts up to the end of the answer."""
    end = next((place + 1 for place, draft in enumerate(drafts) if draft.token in decoder.eos), len(drafts))
    return drafts[: min(end, room)]
