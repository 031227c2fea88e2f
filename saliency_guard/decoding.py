"""The decoding loop: draft, score as one chunk, accept in order, crop, resample (Algorithm 1).

One loop serves plain decoding, LocoRE and SGRS at any draft length: what differs is only whether a
chunk is scored and whether a score can reject.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from saliency_guard.engine import Chunk, Session, resolve_layers
from saliency_guard.errors import ConfigError
from saliency_guard.saliency import (
    SaliencyConfig,
    history_start,
    row_cotangents,
    row_scores,
    row_shares,
    token_logprobs,
    token_rows,
)
from saliency_guard.settings import require
from saliency_guard.sgrs import SGRSConfig, candidates, draw, sample, threshold, uniform

LogitsProcessor = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A candidate that SGRS struck out: its id, log-probability and score."""

    token_id: int
    logprob: float
    saliency: float


@dataclass(frozen=True, slots=True, eq=False)
class DecodedToken:
    """An accepted token and what is known of it.

    Attributes:
        token_id: the token.
        logprob: its log-probability under the model's own softmax.
        saliency: Eq. 6; None for the first token, and where no saliency was asked for.
        threshold: Eq. 7 at its position; None without SGRS.
        shares: part of its predictor row on each source; empty where no saliency was asked for.
        rejected: what was struck out before it, in order.
        logits: ``[V]`` the model's own.
        scores: ``[V]`` as the logits processors left them.
    """

    token_id: int
    logprob: float
    saliency: float | None
    threshold: float | None
    shares: dict[str, float]
    rejected: tuple[Rejection, ...]
    logits: Tensor
    scores: Tensor


@dataclass(slots=True, eq=False)
class Decoder:
    """The rules for continuing one session.

    Attributes:
        session: the prompt and its cache.
        sgrs: Algorithm 1's settings; None accepts what is drawn.
        saliency: what to score; None (without SGRS) scores nothing.
        processor: logits processors as in transformers: ``(input_ids [1, T], scores [1, V]) -> [1, V]``.
        seed: of the random numbers; None decodes greedily.
        eos: ids after which nothing follows.
        prefix: ``[1, P]`` prompt as the logits processors know it; the session's where None.
        draft_length: overrides that of ``sgrs``.
    """

    session: Session
    sgrs: SGRSConfig | None = None
    saliency: SaliencyConfig | None = None
    processor: LogitsProcessor | None = None
    seed: int | None = None
    eos: frozenset[int] = frozenset()
    prefix: Tensor | None = None
    draft_length: int | None = None
    _output: list[int] = field(default_factory=list)
    _history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check that the settings go together."""
        require(SGRSConfig, self.sgrs)
        require(SaliencyConfig, self.saliency)
        if self.sgrs is not None and self.saliency is None:
            self.saliency = SaliencyConfig()
        if self.saliency is not None and self.saliency.normalization == "matrix":
            msg = (
                'normalization="matrix" needs a backward pass over the whole sequence for every candidate: use '
                '"row" while generating, and score the finished answer with "matrix"'
            )
            raise ConfigError(msg)

    def tokens(self, max_new_tokens: int) -> Iterator[DecodedToken]:
        """Accepted tokens, one by one, up to ``max_new_tokens`` or the end of the answer.

        The model is untouched whenever a token is given out, so the iteration may be abandoned.
        """
        session, saliency = self.session, self.saliency
        layers = resolve_layers(saliency.layers, session.depth) if saliency is not None else None
        if self.draft_length is not None:
            length = self.draft_length
        else:
            length = self.sgrs.draft_length if self.sgrs is not None else SGRSConfig().draft_length
        if layers is None:
            length = 1  # Nothing to score: a draft would only be run twice.
        pending = session.last_prompt_token
        while len(self._output) < max_new_tokens:
            base = session.length
            drafts = self._draft(pending, min(length, max_new_tokens - len(self._output)) - 1)
            session.crop(base)
            chunk = session.run([pending, *drafts], layers=layers)
            accepted = self._accept(chunk, drafts)
            session.crop(base + len(accepted))
            pending = accepted[-1].token_id
            del chunk
            yield from accepted
            if pending in self.eos:
                return

    def _number(self, position: int, round_: int) -> float | None:
        return None if self.seed is None else uniform(self.seed, position, round_)

    def _processed(self, ahead: Sequence[int], logits: Tensor) -> Tensor:
        """``[V]`` scores for what follows the output so far and some tokens ahead."""
        scores = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
        if self.processor is None:
            return scores
        prompt = self.session.inputs["input_ids"] if self.prefix is None else self.prefix
        tail = torch.tensor([[*self._output, *ahead]], dtype=prompt.dtype, device=prompt.device)
        return self.processor(torch.cat([prompt, tail], dim=1), scores[None].clone())[0]

    def _first(self, scores: Tensor, position: int) -> tuple[int, list[int]]:
        """Round 0 of Algorithm 1: the token, and the candidates it was drawn from."""
        number = self._number(position, 0)
        if self.sgrs is None:
            if not bool((scores > -torch.inf).any()):
                raise ConfigError(_NOTHING_LEFT)
            return sample(scores, number), []
        among = candidates(scores, self.sgrs.top_k, self.sgrs.min_p)
        if not among:
            raise ConfigError(_NOTHING_LEFT)
        return draw(scores, among, number), among

    def _draft(self, pending: int, count: int) -> list[int]:
        """Up to ``count`` tokens, without gradient and without looking at saliency."""
        drafts: list[int] = []
        token = pending
        while len(drafts) < count:
            logits = self.session.run([token]).logits[-1]
            token, _ = self._first(self._processed(drafts, logits), len(self._output) + len(drafts))
            if token in self.eos:
                break  # The chunk's last row draws it again.
            drafts.append(token)
        return drafts

    def _accept(self, chunk: Chunk, drafts: list[int]) -> list[DecodedToken]:
        """Walk a chunk in order, up to the first token that differs from its draft."""
        start = len(self._output)
        scores: list[Tensor] = []
        firsts: list[int] = []
        amongs: list[list[int]] = []
        for row in range(chunk.rows):
            scores.append(self._processed(drafts[:row], chunk.logits[row]))
            first, among = self._first(scores[row], start + row)
            firsts.append(first)
            amongs.append(among)
            # A chunk's logits may round otherwise than a single step's: the chunk is what counts.
            if row < len(drafts) and first != drafts[row]:
                break
        logits = chunk.logits[: len(firsts)].detach()
        logprobs = token_logprobs(logits, torch.tensor(firsts, device=logits.device)).tolist()
        saliencies, shares = self._score(chunk, firsts)
        accepted: list[DecodedToken] = []
        for row, token in enumerate(firsts):
            tau = threshold(self.sgrs, self._history) if self.sgrs is not None else None
            found = DecodedToken(token, logprobs[row], saliencies[row], tau, shares[row], (), logits[row], scores[row])
            if tau is not None and found.saliency is not None and found.saliency < tau:
                found = self._resample(chunk, row, found, amongs[row])
            accepted.append(found)
            self._output.append(found.token_id)
            if found.saliency is not None:
                self._history.append(found.saliency)
            if row < len(drafts) and found.token_id != drafts[row]:
                break
        return accepted

    def _score(self, chunk: Chunk, tokens: list[int]) -> tuple[list[float | None], list[dict[str, float]]]:
        """Eq. 6 and the shares for one token per row, in one backward pass."""
        if self.saliency is None:
            return [None] * len(tokens), [{} for _ in tokens]
        cotangent = row_cotangents(chunk.logits, torch.tensor(tokens, device=chunk.logits.device))
        rows = token_rows(chunk, cotangent, retain_graph=self.sgrs is not None)[: len(tokens)]
        return self._read(rows, chunk.first_query)

    def _read(self, rows: Tensor, first_query: int) -> tuple[list[float | None], list[dict[str, float]]]:
        layout = self.session.layout
        assert self.saliency is not None  # noqa: S101 - for the type checker; both callers have one
        scores = row_scores(rows, first_query, history_start(self.saliency, layout), layout).tolist()
        parts = {name: values.tolist() for name, values in row_shares(rows, layout).items()}
        known = [None if math.isnan(score) else score for score in scores]
        return known, [
            plain_shares({name: values[row] for name, values in parts.items()}) for row in range(len(scores))
        ]

    def _resample(self, chunk: Chunk, row: int, refused: DecodedToken, among: list[int]) -> DecodedToken:
        """Algorithm 1 from round 1 on, then its fallback: the candidate with the highest score."""
        assert self.sgrs is not None  # noqa: S101 - only called with SGRS
        position = len(self._output)
        tried: dict[int, DecodedToken] = {refused.token_id: refused}
        for round_ in range(1, self.sgrs.max_resamples):
            left = [token for token in among if token not in tried]
            if not left:
                break
            token = draw(refused.scores, left, self._number(position, round_))
            tried[token] = self._candidate(chunk, row, refused, token)
            if _score_of(tried[token]) >= (refused.threshold or 0.0):
                return _after(tried[token], [one for key, one in tried.items() if key != token])
        rejected = list(tried.values())
        for token in among:
            if token not in tried:
                tried[token] = self._candidate(chunk, row, refused, token)
        best = max((tried[token] for token in among), key=_score_of)
        return _after(best, [one for one in rejected if one is not best])

    def _candidate(self, chunk: Chunk, row: int, like: DecodedToken, token: int) -> DecodedToken:
        """S(c) of another candidate at a row that has been scored before."""
        known = torch.tensor([token], device=chunk.logits.device)
        rows = token_rows(chunk, row_cotangents(chunk.logits, known, row), retain_graph=True)[row : row + 1]
        saliencies, shares = self._read(rows, chunk.first_query + row)
        logprob = float(token_logprobs(like.logits[None], known)[0])
        return DecodedToken(token, logprob, saliencies[0], like.threshold, shares[0], (), like.logits, like.scores)


def plain_shares(shares: dict[str, float]) -> dict[str, float]:
    """A token's shares, or none where its row is all zeros and there is nothing to share out."""
    return {} if any(math.isnan(share) for share in shares.values()) else shares


_NOTHING_LEFT = "the logits processors rule out every token: nothing can be generated"


def _score_of(token: DecodedToken) -> float:
    return token.saliency if token.saliency is not None else -1.0


def _after(token: DecodedToken, struck: list[DecodedToken]) -> DecodedToken:
    """The token with its list of rejections."""
    rejected = tuple(Rejection(one.token_id, one.logprob, _score_of(one)) for one in struck)
    return replace(token, rejected=rejected)


def eos_ids(value: Any) -> frozenset[int]:
    """End-of-answer ids from a config's ``eos_token_id``: None, a number, or several in any form."""
    return frozenset() if value is None else frozenset(torch.as_tensor(value).flatten().tolist())
