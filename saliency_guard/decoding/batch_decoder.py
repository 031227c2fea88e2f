"""Several answers written, or scored, side by side: the loops over a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from saliency_guard.decoding.decoder import DecodedToken, Decoder, Draft
from saliency_guard.decoding.sgrs import UNGUARDED_DRAFT
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.forward import target_layers, undisturbed, without_gradients
from saliency_guard.models.session import Session
from saliency_guard.saliency.equations import (
    SaliencyConfig,
    SaliencyScores,
    answer_tensor,
    scores_of_rows,
    token_logprobs,
    token_rows,
)
from saliency_guard.saliency.scoring import SCORED_TOGETHER, score_continuation


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


def score_together(
    sessions: Sequence[Session], answers: Sequence[Sequence[int]], config: SaliencyConfig
) -> list[SaliencyScores]:
    """`score_answer` for several answers, each after its own prompt.

    Args:
        sessions: one per answer, none of them shared, at the end of their prompts.
        answers: token ids.
        config: target layers and history; the norm of the row.
    """
    model = sessions[0].model
    if len(sessions) == 1 or not sessions[0].croppable:
        pairs = zip(sessions, answers, strict=True)
        return [score_continuation(session, answer, config) for session, answer in pairs]
    checked = [answer_tensor(answer, model) for answer in answers]
    length = max(map(len, checked))
    layers = target_layers(model, config.layers)
    for session in sessions:
        session.crop(session.prompt_length - 1)
    with undisturbed(model):
        batch = Batch(sessions)
        # What stands after the end of a shorter answer is seen by nothing before it.
        padded = torch.stack([functional.pad(answer, (0, length - len(answer))) for answer in checked])
        fed = [[session.last_prompt_token, *row[:-1]] for session, row in zip(sessions, padded.tolist(), strict=True)]
        whole = max(session.prompt_length for session in sessions) - 1 + length
        parts: list[Tensor] = []
        likelihoods: list[Tensor] = []
        for start in range(0, length, SCORED_TOGETHER):
            piece = slice(start, start + SCORED_TOGETHER)
            chunk = batch.run([row[piece] for row in fed], layers=layers)
            found = token_rows(chunk, padded[:, piece])
            parts.append(functional.pad(found, (0, whole - found.shape[-1])))
            wanted = padded[:, piece].to(chunk.logits.device)
            likelihoods.append(torch.stack([token_logprobs(*one) for one in zip(chunk.logits, wanted, strict=True)]))
    rows, logprobs = torch.cat(parts, dim=1), torch.cat(likelihoods, dim=1)
    return [
        scores_of_rows(
            rows[index, : len(answer), before : before + session.prompt_length - 1 + len(answer)],
            logprobs[index, : len(answer)],
            config,
            session.layout,
        )
        for index, (answer, session, before) in enumerate(zip(checked, sessions, batch.padding, strict=True))
    ]
