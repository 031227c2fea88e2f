"""The decoding loop: draft, score as one chunk, accept in order, crop, resample (Algorithm 1).

One loop serves plain decoding, LocoRE and SGRS at any draft length: what differs is only whether a
chunk is scored and whether a score can reject.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation.utils import GenerateDecoderOnlyOutput, GenerationMixin

from saliency_guard.engine import Chunk, Session, resolve_layers
from saliency_guard.errors import ConfigError
from saliency_guard.locore import LocoREConfig
from saliency_guard.saliency import (
    SaliencyConfig,
    cotangents,
    history_start,
    row_scores,
    row_shares,
    token_logprobs,
    token_rows,
)
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
    """

    session: Session
    sgrs: SGRSConfig | None = None
    saliency: SaliencyConfig | None = None
    processor: LogitsProcessor | None = None
    seed: int | None = None
    eos: frozenset[int] = frozenset()
    draft_length: int | None = None
    _output: list[int] = field(default_factory=list)
    _history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check that the settings go together."""
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
        prompt = self.session.inputs["input_ids"]
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
        cotangent = torch.zeros(chunk.logits.shape, dtype=torch.float32, device=chunk.logits.device)
        cotangent = cotangent.to(torch.promote_types(chunk.logits.dtype, torch.float32))
        known = torch.tensor(tokens, device=chunk.logits.device)
        cotangent[: len(tokens)] = cotangents(chunk.logits[: len(tokens)], known)
        rows = token_rows(chunk, cotangent, retain_graph=self.sgrs is not None)[: len(tokens)]
        return self._read(rows, chunk.first_query)

    def _read(self, rows: Tensor, first_query: int) -> tuple[list[float | None], list[dict[str, float]]]:
        layout = self.session.layout
        assert self.saliency is not None  # noqa: S101 - for the type checker; both callers have one
        scores = row_scores(rows, first_query, history_start(self.saliency, layout), layout).tolist()
        parts = {name: values.tolist() for name, values in row_shares(rows, layout).items()}
        known = [None if score != score else score for score in scores]  # noqa: PLR0124 - NaN: no history
        return known, [{name: values[row] for name, values in parts.items()} for row in range(len(scores))]

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
        cotangent = torch.zeros_like(like.scores.new_empty(chunk.logits.shape))
        cotangent[row] = cotangents(chunk.logits[row : row + 1], known)[0]
        rows = token_rows(chunk, cotangent, retain_graph=True)[row : row + 1]
        saliencies, shares = self._read(rows, chunk.first_query + row)
        logprob = float(token_logprobs(like.logits[None], known)[0])
        return DecodedToken(token, logprob, saliencies[0], like.threshold, shares[0], (), like.logits, like.scores)


_NOTHING_LEFT = "the logits processors rule out every token: nothing can be generated"


def _score_of(token: DecodedToken) -> float:
    return token.saliency if token.saliency is not None else -1.0


def _after(token: DecodedToken, struck: list[DecodedToken]) -> DecodedToken:
    """The token with its list of rejections."""
    rejected = tuple(Rejection(one.token_id, one.logprob, _score_of(one)) for one in struck)
    return DecodedToken(
        token.token_id,
        token.logprob,
        token.saliency,
        token.threshold,
        token.shares,
        rejected,
        token.logits,
        token.scores,
    )


@dataclass
class SGRSOutput(GenerateDecoderOnlyOutput):
    """What `sgrs_generate` returns with ``return_dict_in_generate``: transformers' output, and the scores.

    Attributes:
        saliency: ``[1, N]`` Eq. 6 of each generated token, NaN for the first.
        tokens: the decoded tokens with thresholds, shares and rejections.
    """

    saliency: Tensor | None = None
    tokens: tuple[DecodedToken, ...] | None = None


# What `generate` prepares for its own loop and this one does for itself.
_PREPARED = frozenset({"past_key_values", "position_ids", "cache_position", "logits_to_keep", "use_cache"})


def sgrs_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    sgrs: SGRSConfig | None = None,
    saliency: SaliencyConfig | None = None,
    locore: LocoREConfig | None = None,
    streamer: Any = None,
    **model_kwargs: Any,
) -> SGRSOutput | Tensor:
    """SGRS and LocoRE inside ``model.generate(**inputs, custom_generate=sgrs_generate, sgrs=..., locore=...)``.

    Logits processors, stopping criteria, ``max_new_tokens``, ``min_new_tokens``, ``eos_token_id``,
    ``do_sample`` with its warpers, the streamer and ``return_dict_in_generate`` mean what they mean in
    `generate`. Its ``stop_strings`` do not reach a callable ``custom_generate``: pass a
    ``StopStringCriteria`` instead. With ``do_sample`` the random numbers follow ``torch.manual_seed``.

    Args:
        model: passed by `generate`, as the next four.
        input_ids: ``[1, P]``.
        logits_processor: prepared by `generate`.
        stopping_criteria: prepared by `generate`.
        generation_config: prepared by `generate`.
        sgrs: settings of SGRS; the default is ``SGRSConfig()``.
        saliency: target layers, norm, history; the default is ``SaliencyConfig()``.
        locore: settings of LocoRE; the default, None, is off.
        streamer: of transformers; found by itself when given to `generate`.
        **model_kwargs: the processor's outputs and what `generate` prepared.

    Returns:
        ``[1, P + N]`` ids, or `SGRSOutput` with ``return_dict_in_generate``.

    Raises:
        ConfigError: for beams or several return sequences.
        InputError: for more than one prompt.
    """
    if generation_config.num_beams != 1 or generation_config.num_return_sequences != 1:
        msg = "sgrs_generate decodes one sequence: num_beams and num_return_sequences must be 1"
        raise ConfigError(msg)
    streamer = streamer if streamer is not None else _streamer_of_generate()
    inputs = {name: value for name, value in model_kwargs.items() if name not in _PREPARED and value is not None}
    decoder = Decoder(
        session=Session(model, {"input_ids": input_ids, **inputs}, locore=locore),
        sgrs=sgrs or SGRSConfig(),
        saliency=saliency or SaliencyConfig(),
        processor=logits_processor if len(logits_processor) else None,  # type: ignore[arg-type]
        seed=int(torch.randint(2**62, ())) if generation_config.do_sample else None,
        eos=_eos(generation_config),
    )
    keep_scores = generation_config.return_dict_in_generate and generation_config.output_scores
    sequence = input_ids
    scores: tuple[Tensor, ...] = ()
    tokens: list[DecodedToken] = []
    for token in decoder.tokens(generation_config.max_length - input_ids.shape[1]):
        tokens.append(token)
        new = torch.tensor([token.token_id], device=input_ids.device)
        sequence = torch.cat([sequence, new[None]], dim=1)
        if streamer is not None:
            streamer.put(new.cpu())
        if keep_scores:
            scores = (*scores, token.scores[None])
        if bool(stopping_criteria(sequence, scores or None).all()):
            break
    if streamer is not None:
        streamer.end()
    if not generation_config.return_dict_in_generate:
        return sequence
    return SGRSOutput(
        sequences=sequence,  # type: ignore[arg-type]
        scores=scores if keep_scores else None,  # type: ignore[arg-type]
        logits=tuple(one.logits[None] for one in tokens) if generation_config.output_logits else None,  # type: ignore[arg-type]
        saliency=torch.tensor([[torch.nan if t.saliency is None else t.saliency for t in tokens]]),
        tokens=tuple(tokens),
    )


def _eos(config: GenerationConfig) -> frozenset[int]:
    ids = config.eos_token_id
    return frozenset() if ids is None else frozenset(ids if isinstance(ids, list) else [ids])


def _streamer_of_generate() -> Any:
    """The streamer that was given to `generate`, which does not hand it to a callable ``custom_generate``."""
    frame = sys._getframe(2)  # this function <- sgrs_generate <- generate
    return frame.f_locals.get("streamer") if frame.f_code is _GENERATE_CODE else None


def _unwrapped(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


_GENERATE_CODE = _unwrapped(GenerationMixin.generate).__code__
