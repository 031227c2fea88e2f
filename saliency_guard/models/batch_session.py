"""Several sessions of one model, run as one batch.

Rows do not mix, so a session ends up where it would have been alone. The sessions own their caches: a
batch lines them up at their ends, runs them, and hands them back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_guard.models.attention import Tape
from saliency_guard.models.forward import undisturbed
from saliency_guard.models.kv_cache import cached_pass, hand_back, set_back, side_by_side
from saliency_guard.models.locore import Gains, row_gains
from saliency_guard.models.session import Chunk, Session
from saliency_guard.models.skip_layers import recording, resuming


class Batch:
    """Two or more sessions side by side; none may be used by itself before `hand_back`.

    Args:
        sessions: of one model, with caches that can be cropped, all keeping the states of the same layer.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = tuple(sessions)
        self._model = sessions[0].model
        self._starts = [session.length for session in sessions]
        self._width = max(self._starts)
        self.padding = tuple(self._width - start for start in self._starts)
        """What stands before each session's first position."""
        self._cache = side_by_side([session.cache for session in sessions], self.padding)
        self._tokens: list[Tensor] = []
        self._states: list[Tensor] = []

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        *,
        layers: tuple[int, ...] | None = None,
        with_states: bool = False,
    ) -> Chunk:
        """Feed each session the same number of tokens.

        Args:
            tokens: ``[B][n]``.
            layers: target layers to keep on tape; None runs without gradient.
            with_states: as for `Session.run`.

        Returns:
            The chunk, with logits ``[B, n, V]``.
        """
        ids = torch.tensor([list(row) for row in tokens], device=self.sessions[0].inputs["input_ids"].device)
        with undisturbed(self._model), recording(self._model, self.sessions[0].entry) as entered:
            chunk = self._pass(ids, layers, with_states=with_states)
        if _positions(self._states) == _positions(self._tokens):
            self._states += entered
        self._tokens.append(ids)
        return chunk

    def rescore(self, *, layers: tuple[int, ...]) -> Chunk:
        """Run everything that was fed once more, on tape; see `Session.rescore`."""
        ids = torch.cat(self._tokens, dim=1)
        whole = self.sessions[0].entry == min(layers) and _positions(self._states) == ids.shape[1]
        known = self._states if whole else []
        with (
            undisturbed(self._model),
            set_back(self._cache, self._width),
            resuming(self._model, min(layers), known) as entry,
        ):
            return self._pass(ids, layers, entry=entry)

    def _pass(self, ids: Tensor, layers: tuple[int, ...] | None, *, entry: int = 0, with_states: bool = False) -> Chunk:
        done = int(self._cache.get_seq_length()) - self._width
        count = ids.shape[1]
        whole = self._width + done + count
        positions = [
            session.positions(start + done, count) for session, start in zip(self.sessions, self._starts, strict=True)
        ]
        # A prompt without a picture may count in one row where others count in several.
        rows = max(positions, key=lambda ids: ids.ndim).shape[:-2]
        positions = [ids.expand(*rows, *ids.shape[-2:]) for ids in positions]
        inputs = {"input_ids": ids, "position_ids": torch.cat(positions, dim=-2)}
        if any(self.padding):
            inputs["attention_mask"] = self._mask(whole)
        tape = Tape(layers) if layers is not None else None
        states: list[Tensor] | None = [] if with_states else None
        gains = self._gains(done, count, whole)
        logits = cached_pass(self._model, self._cache, inputs, tape=tape, gains=gains, entry=entry, states=states)
        return Chunk(logits, self._width + done, tape, tuple(states or ()))

    def _mask(self, length: int) -> Tensor:
        mask = torch.ones(
            len(self.sessions), length, dtype=torch.long, device=self.sessions[0].inputs["input_ids"].device
        )
        for row, before in enumerate(self.padding):
            mask[row, :before] = 0
        return mask

    def _gains(self, done: int, count: int, whole: int) -> Gains | None:
        gains = [
            row_gains(self._model, session.locore, start + done, count, session.prompt_length)
            for session, start in zip(self.sessions, self._starts, strict=True)
        ]
        some = next((gain for gain in gains if gain is not None), None)
        if some is None:
            return None
        factors = some.factors.new_ones(len(gains), 1, count, whole)
        for row, gain in enumerate(gains):
            if gain is not None:
                factors[row, 0, :, whole - gain.factors.shape[1] :] = gain.factors
        return Gains(factors, some.layers, some.renormalize)

    def hand_back(self) -> None:
        """Give every session what it was fed, as if it had run alone."""
        fed = torch.cat(self._tokens, dim=1).tolist()
        kept = _positions(self._states) == len(fed[0])
        hand_back(self._cache, [session.cache for session in self.sessions], self.padding)
        for row, session in enumerate(self.sessions):
            if kept and len(session.states) == len(session.tokens):
                session.states += [state for states in self._states for state in states[row : row + 1].split(1, dim=1)]
            session.tokens += fed[row]


def _positions(pieces: Sequence[Tensor]) -> int:
    """How many positions several pieces ``[B, n, ...]`` cover."""
    return sum(piece.shape[1] for piece in pieces)
