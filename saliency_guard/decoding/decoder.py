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

from saliency_guard.decoding.sgrs import (
    UNGUARDED_DRAFT,
    SGRSConfig,
    candidates,
    draft_length,
    draw,
    sample,
    threshold,
    uniform,
)
from saliency_guard.errors import ConfigError
from saliency_guard.models.forward import without_gradients
from saliency_guard.models.layers import target_layers
from saliency_guard.models.session import Chunk, Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.equations import candidate_rows, history_start, row_scores, token_logprobs, token_rows
from saliency_guard.saliency.shares import plain_shares, row_shares
from saliency_guard.settings import require

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


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A drawn token, the logits it was drawn from (the model's, and as processed), and its rivals under SGRS."""

    token: int
    logits: Tensor
    scores: Tensor
    among: list[int]


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
    _rejections: int = 0
    _targets: tuple[int, ...] = field(init=False)

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
        self._targets = target_layers(self.session.model, (self.saliency or SaliencyConfig()).layers)

    def begin(self) -> None:
        """Go back to the end of the prompt; what a later scoring of the answer would ask for is kept."""
        self.session.crop(self.session.prompt_length - 1)
        self.session.keep_states(min(self._targets))

    @property
    def pending(self) -> int:
        """The token that is to be fed next."""
        return self._output[-1] if self._output else self.session.last_prompt_token

    @property
    def layers(self) -> tuple[int, ...] | None:
        """The target layers; None where nothing is scored."""
        return self._targets if self.saliency is not None else None

    def tokens(self, max_new_tokens: int) -> Iterator[DecodedToken]:
        """Accepted tokens, one by one, up to ``max_new_tokens`` or the end of the answer.

        The model is untouched whenever a token is given out, so the iteration may be abandoned.
        """
        self.begin()
        while (room := max_new_tokens - self.written) > 0 and not self.ended:
            # Not in `undisturbed`: logits processors are the caller's code, and may wait for other threads.
            with without_gradients():
                accepted = self.round(room)
            yield from accepted

    @property
    def written(self) -> int:
        """Tokens so far."""
        return len(self._output)

    @property
    def ended(self) -> bool:
        """Whether the answer has come to its end."""
        return bool(self._output) and self._output[-1] in self.eos

    def length(self) -> int:
        """How many tokens to draft next; changes the cost, never the tokens."""
        if self.saliency is None or not self.session.croppable:
            return 1
        if self.draft_length is not None:
            return self.draft_length
        if self.sgrs is None:
            return UNGUARDED_DRAFT
        return draft_length(self.sgrs, self._rejections, len(self._history))

    def round(self, room: int) -> list[DecodedToken]:
        """Draft up to ``room`` tokens, score them together, and keep those up to the first that changes."""
        session, layers = self.session, self.layers
        count = min(self.length(), room)
        if count == 1 or layers is None:
            chunk = session.run([self.pending], layers=layers)
            drafts = [self.draft(chunk.logits[-1], ())]
            # A lone row may be asked about other candidates.
            rows = self._rows(chunk, drafts, retain_graph=self.sgrs is not None)
            return self.accept(drafts, rows, chunk)
        base = session.length
        drafts = []
        token = self.pending
        while len(drafts) < count and token not in self.eos:
            drafts.append(self.draft(session.run([token]).logits[-1], drafts))
            token = drafts[-1].token
        return self.accept(drafts, self._rows(session.rescore(base, len(drafts), layers=layers), drafts))

    def _rows(self, chunk: Chunk, drafts: Sequence[Draft], *, retain_graph: bool = False) -> Tensor | None:
        """Eq. 5 for one token per row, in one backward pass."""
        if chunk.tape is None:
            return None
        return token_rows(chunk, torch.tensor([draft.token for draft in drafts]), retain_graph=retain_graph)

    def draft(self, logits: Tensor, ahead: Sequence[Draft]) -> Draft:
        """What is drawn from ``[V]`` logits after the output so far and some drafts."""
        scores = self._processed([one.token for one in ahead], logits)
        token, among = self._first(scores, len(self._output) + len(ahead))
        return Draft(token, logits.detach(), scores, among)

    def accept(self, drafts: Sequence[Draft], rows: Tensor | None, chunk: Chunk | None = None) -> list[DecodedToken]:
        """Walk the drafts in order, up to the first that Algorithm 1 changes, and forget what follows it.

        Args:
            drafts: what led to each is in the session's cache.
            rows: ``[n, T]`` the normalised predictor row of each; None where nothing is scored.
            chunk: of a single draft, on tape, if there is one.
        """
        session = self.session
        first = session.prompt_length - 1 + len(self._output)
        drawn = torch.tensor([draft.token for draft in drafts])
        logits = torch.stack([draft.logits for draft in drafts])
        logprobs = token_logprobs(logits, drawn.to(logits.device)).tolist()
        saliencies, shares = self._read(rows, first) if rows is not None else ([None] * len(drafts), [{}] * len(drafts))
        accepted: list[DecodedToken] = []
        for row, draft in enumerate(drafts):
            tau = threshold(self.sgrs, self._history) if self.sgrs is not None else None
            found = DecodedToken(
                draft.token, logprobs[row], saliencies[row], tau, shares[row], (), draft.logits, draft.scores
            )
            if self.refuses(found):
                self._rejections += 1
                alone = chunk or session.rescore(first + row, 1, layers=self._targets)
                found = self._resample(alone, found, draft.among)
            accepted.append(found)
            self._output.append(found.token_id)
            if found.saliency is not None:
                self._history.append(found.saliency)
            if found.token_id != draft.token:
                break
        session.crop(first + len(accepted))
        return accepted

    def refuses(self, found: DecodedToken) -> bool:
        """Whether Algorithm 1 strikes out what was drawn first."""
        return found.threshold is not None and found.saliency is not None and found.saliency < found.threshold

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

    def _read(
        self, rows: Tensor, first_query: int, *, same_query: bool = False
    ) -> tuple[list[float | None], list[dict[str, float]]]:
        """Eq. 6 and shares of rows ``[n, T]``, of queries one after the other, or all of one query."""
        layout = self.session.layout
        assert self.saliency is not None  # noqa: S101 - for the type checker; both callers have one
        start = history_start(self.saliency, layout)
        scores = row_scores(rows, first_query, start, layout, same_query=same_query).tolist()
        parts = {name: values.tolist() for name, values in row_shares(rows, layout).items()}
        known = [None if math.isnan(score) else score for score in scores]
        return known, [
            plain_shares({name: values[row] for name, values in parts.items()}) for row in range(len(scores))
        ]

    def _resample(self, chunk: Chunk, refused: DecodedToken, among: list[int]) -> DecodedToken:
        """Algorithm 1 from round 1 on, then its fallback: the candidate with the highest score.

        Args:
            chunk: one row on tape, the one that predicts this position.
            refused: what round 0 drew.
            among: the candidates.
        """
        assert self.sgrs is not None  # noqa: S101 - only called with SGRS
        position = len(self._output)
        scored = self._candidates(chunk, refused, among)
        tried = [refused.token_id]
        for round_ in range(1, self.sgrs.max_resamples):
            left = [token for token in among if token not in tried]
            if not left:
                break
            token = draw(refused.scores, left, self._number(position, round_))
            if _score_of(scored[token]) >= (refused.threshold or 0.0):
                return _after(scored[token], [scored[one] for one in tried])
            tried.append(token)
        best = max((scored[token] for token in among), key=_score_of)
        return _after(best, [scored[one] for one in tried if one != best.token_id])

    def _candidates(self, chunk: Chunk, refused: DecodedToken, among: list[int]) -> dict[int, DecodedToken]:
        """S(c) of all candidates at one position, in one batched vector-Jacobian product."""
        others = [token for token in among if token != refused.token_id]
        scored = {refused.token_id: refused}
        if others:
            rows = candidate_rows(chunk, others)
            saliencies, shares = self._read(rows, chunk.first_query, same_query=True)
            logprobs = token_logprobs(
                refused.logits.expand(len(others), -1), torch.tensor(others, device=refused.logits.device)
            ).tolist()
            for index, token in enumerate(others):
                scored[token] = replace(
                    refused,
                    token_id=token,
                    logprob=logprobs[index],
                    saliency=saliencies[index],
                    shares=shares[index],
                )
        return scored


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
