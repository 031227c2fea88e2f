"""The decoding loop: draft, score as one chunk, accept in order, crop, resample (Algorithm 1).

One loop serves plain decoding, LocoRE and SGRS at any draft length: what differs is only whether a
chunk is scored and whether a score can reject.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saliency_guard.answer import TokenGrounding
from saliency_guard.decoding.draft_length import UNGUARDED_DRAFT, draft_length
from saliency_guard.decoding.sampling import LogitsProcessor, draw, sample, uniform
from saliency_guard.decoding.sgrs import SGRSConfig, candidates, is_rejected, resample, threshold
from saliency_guard.errors import ConfigError
from saliency_guard.models.fork_safety import interruptible, uninterrupted
from saliency_guard.models.forward import without_gradients
from saliency_guard.models.layers import target_layers
from saliency_guard.models.session import Chunk, Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.equations import candidate_rows, history_start, row_scores, token_logprobs, token_rows
from saliency_guard.saliency.shares import plain_shares, row_shares
from saliency_guard.settings import require


@dataclass(frozen=True, slots=True, eq=False)
class DecodedToken:
    """An accepted token.

    Attributes:
        grounding: what is known of it; its text is empty, nothing here reads token ids.
        logits: ``[V]`` the model's own.
        scores: ``[V]`` as the logits processors left them.
    """

    grounding: TokenGrounding
    logits: Tensor
    scores: Tensor

    @property
    def token_id(self) -> int:
        """Its id."""
        return self.grounding.token_id


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A drawn token, the logits it was drawn from (the model's, and as processed), and its rivals under SGRS."""

    token: int
    logits: Tensor
    scores: Tensor
    rivals: list[int]


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
        keeps_states: whether the states that enter the lowest target layer are kept, so that a scoring of the finished
            answer need not run the layers below.
    """

    session: Session
    sgrs: SGRSConfig | None = None
    saliency: SaliencyConfig | None = None
    processor: LogitsProcessor | None = None
    seed: int | None = None
    eos: frozenset[int] = frozenset()
    prefix: Tensor | None = None
    draft_length: int | None = None
    keeps_states: bool = True
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
        if self.saliency is not None:
            self.saliency.require_rows()
        self._targets = target_layers(self.session.model, (self.saliency or SaliencyConfig()).layers)

    def begin(self) -> None:
        """Go back to the end of the prompt."""
        self.session.crop(self.session.prompt_length - 1)
        self.session.keep_states(min(self._targets) if self.keeps_states else None)

    @property
    def pending(self) -> int:
        """The next token to feed."""
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
            with uninterrupted(), without_gradients():
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
        # The prompt's own last token may be one that ends answers, and something follows it all the same.
        while len(drafts) < count and not (drafts and token in self.eos):
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
        scores = self._processed([draft.token for draft in ahead], logits)
        token, rivals = self._draw_first(scores, len(self._output) + len(ahead))
        return Draft(token, logits.detach(), scores, rivals)

    def accept(self, drafts: Sequence[Draft], rows: Tensor | None, chunk: Chunk | None = None) -> list[DecodedToken]:
        """Walk the drafts in order, up to the first that Algorithm 1 changes, and forget what follows it.

        Args:
            drafts: what led to each is in the session's cache.
            rows: ``[n, T]`` the normalised predictor row of each; None where nothing is scored.
            chunk: of a single draft, on tape, if there is one.
        """
        session = self.session
        first = session.prompt_length - 1 + len(self._output)
        logits = torch.stack([draft.logits for draft in drafts])
        drawn = torch.tensor([draft.token for draft in drafts], device=logits.device)
        logprobs = token_logprobs(logits, drawn).tolist()
        saliencies, shares = self._read(rows, first) if rows is not None else ([None] * len(drafts), [{}] * len(drafts))
        accepted: list[DecodedToken] = []
        for row, draft in enumerate(drafts):
            token = TokenGrounding(
                text="",
                token_id=draft.token,
                position=len(self._output),
                logprob=logprobs[row],
                saliency=saliencies[row],
                threshold=threshold(self.sgrs, self._history) if self.sgrs is not None else None,
                shares=shares[row],
            )
            if self.rejects(token):
                self._rejections += 1
                alone = chunk or session.rescore(first + row, 1, layers=self._targets)
                token = self._resampled(alone, token, draft)
            accepted.append(DecodedToken(token, draft.logits, draft.scores))
            self._output.append(token.token_id)
            if token.saliency is not None:
                self._history.append(token.saliency)
            if token.token_id != draft.token:
                break
        session.crop(first + len(accepted))
        return accepted

    def rejects(self, token: TokenGrounding) -> bool:
        """Whether Algorithm 1 rejects what was drawn first."""
        return is_rejected(token)

    def _number(self, position: int, round_: int) -> float | None:
        return None if self.seed is None else uniform(self.seed, position, round_)

    def _processed(self, ahead: Sequence[int], logits: Tensor) -> Tensor:
        """``[V]`` scores for what follows the output so far and some tokens ahead."""
        scores = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
        if self.processor is None:
            return scores
        prompt = self.session.inputs["input_ids"] if self.prefix is None else self.prefix
        tail = torch.tensor([[*self._output, *ahead]], dtype=prompt.dtype, device=prompt.device)
        with interruptible():
            processed = self.processor(torch.cat([prompt, tail], dim=1), scores[None].clone())[0]
        if bool(torch.isnan(processed).any()) or bool((processed == torch.inf).any()):
            raise ConfigError(_NO_NUMBERS)
        return processed

    def _draw_first(self, scores: Tensor, position: int) -> tuple[int, list[int]]:
        """Round 0 of Algorithm 1: the token, and the candidates it was drawn from."""
        number = self._number(position, 0)
        if self.sgrs is None:
            if not bool((scores > -torch.inf).any()):
                raise ConfigError(_NOTHING_LEFT)
            return sample(scores, number), []
        rivals = candidates(scores, self.sgrs.top_k, self.sgrs.min_p)
        if not rivals:
            raise ConfigError(_NOTHING_LEFT)
        return draw(scores, rivals, number), rivals

    def _read(
        self, rows: Tensor, first_query: int, *, same_query: bool = False
    ) -> tuple[list[float | None], list[dict[str, float]]]:
        """Eq. 6 and shares of rows ``[n, T]``, of queries one after the other, or all of one query."""
        layout = self.session.layout
        assert self.saliency is not None  # noqa: S101 - for the type checker; both callers have one
        start = history_start(self.saliency, layout)
        scores = row_scores(rows, first_query, start, layout, same_query=same_query).tolist()
        parts = {name: values.tolist() for name, values in row_shares(rows, layout).items()}
        saliencies = [None if math.isnan(score) else score for score in scores]
        return saliencies, [
            plain_shares({name: values[row] for name, values in parts.items()}) for row in range(len(scores))
        ]

    def _resampled(self, chunk: Chunk, rejected: TokenGrounding, draft: Draft) -> TokenGrounding:
        """What Algorithm 1 takes instead of a rejected draft.

        Args:
            chunk: one row on tape, the one that predicts this position.
            rejected: what round 0 drew.
            draft: with the candidates and the logits.
        """
        assert self.sgrs is not None  # noqa: S101 - nothing is rejected without SGRS
        scored = self._scored_candidates(chunk, rejected, draft)
        position = len(self._output)
        return resample(self.sgrs, rejected, scored, draft.scores, lambda round_: self._number(position, round_))

    def _scored_candidates(self, chunk: Chunk, rejected: TokenGrounding, draft: Draft) -> dict[int, TokenGrounding]:
        """S(c) of all candidates at one position, most probable first, in one batched vector-Jacobian product."""
        others = [token for token in draft.rivals if token != rejected.token_id]
        scored = {rejected.token_id: rejected}
        if others:
            saliencies, shares = self._read(candidate_rows(chunk, others), chunk.first_query, same_query=True)
            logprobs = token_logprobs(
                draft.logits.expand(len(others), -1), torch.tensor(others, device=draft.logits.device)
            ).tolist()
            for index, token in enumerate(others):
                changed = {
                    "token_id": token,
                    "logprob": logprobs[index],
                    "saliency": saliencies[index],
                    "shares": shares[index],
                }
                scored[token] = rejected.model_copy(update=changed)
        return {token: scored[token] for token in draft.rivals}


_NO_NUMBERS = (
    "the logits processors returned NaN or infinite scores: nothing can be drawn from those (a temperature that is too "
    "small does that)"
)
_NOTHING_LEFT = "the logits processors rule out every token: nothing can be generated"


def eos_ids(value: Any) -> frozenset[int]:
    """End-of-answer ids from a config's ``eos_token_id``: None, a number, or several in any form."""
    return frozenset() if value is None else frozenset(torch.as_tensor(value).flatten().tolist())
