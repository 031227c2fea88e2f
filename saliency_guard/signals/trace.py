"""The one trace of an answer that all signals and the calibrator share: attention, its gradient, states, logits.

One pass and one backward pass over each piece of an answer give everything except the values of the logit lens and
the blank picture, which are computed when they are first needed. Several answers are traced as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout
from saliency_guard.models.inputs import answer_tensor
from saliency_guard.models.layers import attention_layers, target_layers
from saliency_guard.models.lens import lens_logits
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Chunk, Session, blank_inputs
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.equations import cotangents, layer_gradients, row_unit, token_logprobs, weight_gradient
from saliency_guard.saliency.scoring import SaliencyScores, scores_of_rows
from saliency_guard.settings import require
from saliency_guard.signals.answer_rows import batched, chunks, masks, next_entropies, padded, paddings
from saliency_guard.signals.looks import attention_on_pictures

MAX_LENS_POSITIONS = 64
MAX_LENS_LAYERS = 8
"""The logit lens takes one product with the whole vocabulary per position and layer: of a larger picture only the
positions that the answer looks at most are taken, of a deeper model evenly spaced layers."""


@dataclass(frozen=True, eq=False)
class AnswerTrace:
    """The trace of an answer of N tokens: the predictor row of each, in L layers with H attention heads.

    A picture that is seen across has no positions, and the logit lens finds nothing of it.

    Attributes:
        tokens: ``[N]`` ids.
        logits: ``[N, V]`` float32, row t predicts ``tokens[t]``.
        rows: ``[N, T]`` the normalised predictor row of each token (Eq. 5, mean over the target layers); where some
            layers look at pictures across, their keys stand before those of the sequence.
        scores: Eq. 6, shares and log-probabilities under the configured target layers.
        attention: ``[N, L, H, 3]`` attention of the predictor row summed over each of `SOURCES`.
        saliency: ``[N, L, H, 3]`` the same of ``abs(A * gradient)`` (Eq. 4), up to a factor per token.
        signed: ``[N, L, H, 3]`` the same of ``-A * gradient``: above 0 where looking there speaks for the token.
        output_states: ``[N + 1, D]`` for the embeddings and after every layer: of the last prompt token, and of every
            token of the answer.
        image_states: ``[I, D]`` of the same at all image positions; as of `Session`.
        layout: sources of the prompt.
        model: the model of the trace; not changed.
        blank: the answer under uniform pictures.
        number: which answer of ``blank`` it is.
    """

    tokens: Tensor
    logits: Tensor
    rows: Tensor
    scores: SaliencyScores
    attention: Tensor
    saliency: Tensor
    signed: Tensor
    output_states: tuple[Tensor, ...]
    image_states: tuple[Tensor, ...]
    layout: PromptLayout
    model: PreTrainedModel = field(repr=False)
    blank: BlankScores = field(repr=False)
    number: int = 0

    @cached_property
    def image_positions(self) -> Tensor:
        """``[I]`` positions of all images."""
        return self.layout.image_positions

    @cached_property
    def lens_columns(self) -> Tensor:
        """Indices into ``image_positions`` that the lens uses, in order: those with most of the answer's saliency."""
        positions = self.image_positions
        if len(positions) <= MAX_LENS_POSITIONS:
            return torch.arange(len(positions))
        looks = self.rows[:, positions.to(self.rows.device)].nan_to_num().mean(dim=0)
        return looks.topk(MAX_LENS_POSITIONS).indices.sort().values.cpu()

    @property
    def lens_positions(self) -> Tensor:
        """Positions of the prompt that the lens uses."""
        return self.image_positions[self.lens_columns]

    @property
    def lens_layers(self) -> tuple[int, ...]:
        """Indices of the states that the lens is applied to; 0 are the embeddings."""
        depth = len(self.image_states)
        if depth <= MAX_LENS_LAYERS:
            return tuple(range(depth))
        return tuple(torch.linspace(0, depth - 1, MAX_LENS_LAYERS).round().int().tolist())

    @property
    def lens(self) -> Tensor:
        """``[lens layers, lens positions, N]`` log-probability of each token under the logit lens.

        NaN where the decoder keeps no final norm under the usual name (``norm``).
        """
        return self._through_lens[0]

    @property
    def lens_entropy(self) -> Tensor:
        """``[lens layers, lens positions]`` entropy (nats) of the logit lens: how certain it is."""
        return self._through_lens[1]

    @cached_property
    def _through_lens(self) -> tuple[Tensor, Tensor]:
        chosen = self.lens_layers
        layers: list[Tensor] = []
        entropies: list[Tensor] = []
        with torch.no_grad():
            for depth in chosen:
                states = self.image_states[depth]
                states = states[self.lens_columns.to(states.device)]
                logits = lens_logits(self.model, states, normalised=depth == len(self.image_states) - 1)
                if logits is None:
                    unknown = torch.full((len(chosen), len(self.lens_columns)), torch.nan)
                    return unknown[..., None].expand(-1, -1, len(self.tokens)), unknown
                total = logits.logsumexp(-1)
                layers.append(logits[:, self.tokens.to(logits.device)] - total[:, None])
                entropies.append(total - ((logits - total[:, None]).exp_() * logits).sum(-1))
        return torch.stack(layers), torch.stack(entropies)

    @property
    def blank_logprobs(self) -> Tensor:
        """``[N]`` log-probability of each token with every picture uniform: zeros, after normalisation."""
        return self.blank.logprobs[self.number]

    @property
    def blank_entropy(self) -> Tensor:
        """``[N]`` entropy (nats) of the distribution that each token was taken from, with every picture uniform."""
        return self.blank.entropies[self.number]

    @cached_property
    def looks(self) -> Tensor:
        """``[N, L, I]`` attention on each of ``image_positions``, mean over heads; the answer is run once more."""
        return attention_on_pictures(self.blank.sessions[self.number], self.tokens)


BlankPrompt = Callable[[Session], Session]
"""From a prompt to the same one with uniform pictures."""


def read_blank(session: Session) -> Session:
    """The session's prompt with uniform pictures, read again."""
    return Session(session.model, blank_inputs(session.inputs), locore=session.locore, layout=session.layout)


@dataclass(frozen=True, eq=False)
class BlankScores:
    """Several answers under uniform pictures, run as one batch when one of them is first needed.

    Attributes:
        sessions: the prompts.
        answers: ``[N]`` ids of each.
        read: a prompt with uniform pictures.
    """

    sessions: tuple[Session, ...]
    answers: tuple[Tensor, ...]
    read: BlankPrompt

    @property
    def logprobs(self) -> list[Tensor]:
        """``[N]`` of each answer."""
        return self._read[0]

    @property
    def entropies(self) -> list[Tensor]:
        """``[N]`` of each answer."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[list[Tensor], list[Tensor]]:
        together = padded(self.answers)
        blanks = [self.read(session) for session in self.sessions]
        parts: list[tuple[Tensor, Tensor]] = []
        for start, chunk in chunks(blanks, together[:, :-1]):
            logits = batched(chunk.logits)
            answered = together[:, start : start + logits.shape[1]].to(logits.device)
            logprobs = token_logprobs(logits.flatten(0, 1), answered.flatten()).view(len(blanks), -1)
            parts.append((logprobs, next_entropies(logits)))
        logprob_rows, entropy_rows = (torch.cat(rows, dim=1) for rows in zip(*parts, strict=True))
        lengths = [len(answer) for answer in self.answers]
        return (
            [row[:length] for row, length in zip(logprob_rows, lengths, strict=True)],
            [row[:length] for row, length in zip(entropy_rows, lengths, strict=True)],
        )


def trace_answer(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    answer_ids: Tensor | Sequence[int],
    *,
    saliency: SaliencyConfig | None = None,
    locore: LocoREConfig | None = None,
    layout: PromptLayout | None = None,
) -> AnswerTrace:
    """Trace every token of an answer; arguments and errors as for `score_answer`.

    Raises:
        ConfigError: also for ``normalization="matrix"``, which has no rows to sum over.
    """
    require(SaliencyConfig, saliency)
    session = Session(model, inputs, locore=locore, layout=layout, with_image_states=True)
    return trace_answers([session], [answer_ids], saliency or SaliencyConfig())[0]


def trace_answers(
    sessions: Sequence[Session],
    answers: Sequence[Tensor | Sequence[int]],
    config: SaliencyConfig,
    *,
    read: BlankPrompt = read_blank,
) -> list[AnswerTrace]:
    """`trace_answer` for several prompts that have been read, as one batch.

    Args:
        sessions: one per answer, none of them shared, of one model, with the states at their pictures.
        answers: token ids of each.
        config: target layers and history; the norm of the row.
        read: a prompt with uniform pictures.

    Raises:
        ConfigError: for ``normalization="matrix"``.
    """
    config.require_rows()
    model = sessions[0].model
    if len(sessions) > 1 and not all(session.joins for session in sessions):
        pairs = zip(sessions, answers, strict=True)
        return [trace_answers([session], [answer], config, read=read)[0] for session, answer in pairs]
    checked = tuple(answer_tensor(answer, model) for answer in answers)
    together = padded(checked)
    layers = attention_layers(model)
    targets = frozenset(target_layers(model, config.layers))
    before = paddings(sessions)
    # The last row predicts nothing of the answer; it is run for the last token's states.
    pieces = [
        _traced(chunk, together[:, start : start + chunk.rows], layers, targets, masks(sessions, before, chunk))
        for start, chunk in chunks(sessions, together, layers=layers, with_states=True)
    ]
    widest = pieces[-1].rows.shape[-1]
    rows = torch.cat([functional.pad(piece.rows, (0, widest - piece.rows.shape[-1])) for piece in pieces], dim=1)
    logits = pieces[0].logits if len(pieces) == 1 else torch.cat([piece.logits for piece in pieces], dim=1)
    sums = {name: torch.cat([getattr(piece, name) for piece in pieces], dim=1) for name in _SUMMED}
    states = [torch.cat(parts, dim=1) for parts in zip(*(piece.states for piece in pieces), strict=True)]
    blank = BlankScores(tuple(sessions), checked, read)
    traces: list[AnswerTrace] = []
    for number, (session, answer) in enumerate(zip(sessions, checked, strict=True)):
        count, first = len(answer), before[number]
        tokens = answer.to(logits.device)
        answer_rows = rows[number, :count, first : first + session.layout.beside + session.prompt_length - 1 + count]
        answer_logits = logits[number, :count]
        scores = scores_of_rows(answer_rows, token_logprobs(answer_logits, tokens), config, session.layout)
        traces.append(
            AnswerTrace(
                tokens=tokens,
                logits=answer_logits,
                rows=answer_rows,
                scores=scores,
                **{name: values[number, :count] for name, values in sums.items()},
                output_states=tuple(layer[number, : count + 1] for layer in states),
                image_states=session.image_states or (),
                layout=session.layout,
                model=model,
                blank=blank,
                number=number,
            )
        )
    return traces


_SUMMED = ("attention", "saliency", "signed")


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Results of one pass over a piece of several answers; attributes as of `AnswerTrace`, with a batch dimension."""

    logits: Tensor
    rows: Tensor
    attention: Tensor
    saliency: Tensor
    signed: Tensor
    states: tuple[Tensor, ...]


def _traced(chunk: Chunk, written: Tensor, layers: tuple[int, ...], targets: frozenset[int], masks: Tensor) -> _Piece:
    """Sums of attention and of attention times gradient over each source, and Eq. 5.

    Args:
        chunk: with a tape.
        written: ``[B, n]`` the token that each row predicts.
        layers: all layers on the tape.
        targets: those that Eq. 5 is averaged over.
        masks: ``[B, K, 3]`` which key is image, text or output: first those that are only seen across, then all
            positions.
    """
    assert chunk.tape is not None  # noqa: S101 - layers were given
    tokens = written.to(chunk.logits.device)
    records = chunk.tape.in_order()
    wanted = cotangents(chunk.logits, tokens if chunk.logits.ndim > 2 else tokens[0])
    gradients, scale = layer_gradients(chunk.logits, records, wanted, retain_graph=False)
    gradient_of = dict(zip((layer for layer in layers if layer in chunk.tape.records), gradients, strict=True))
    device = chunk.logits.device
    places = chunk.first_query + chunk.rows
    on_across, on_along = masks[:, :-places], masks[:, -places:]
    rows_along: list[Tensor] = []
    rows_across: list[Tensor] = []
    sums: dict[str, list[Tensor]] = {name: [] for name in _SUMMED}
    for layer in layers:
        if layer not in gradient_of:  # The prompt has no picture for it.
            for parts in sums.values():
                parts.append(torch.zeros_like(parts[0]))
            continue
        record = chunk.tape.records[layer]
        product = weight_gradient(record, gradient_of[layer]).mul_(record.weights)
        if scale != 1.0:  # Here and not before: in float16 the smallest gradients would become zero.
            product /= scale
        of_source = (on_across if record.across else on_along).to(product)[:, None]
        sums["attention"].append(record.weights @ of_source)
        sums["signed"].append(-(product @ of_source))
        magnitude = product.abs_()
        sums["saliency"].append(magnitude @ of_source)
        if layer in targets:
            (rows_across if record.across else rows_along).append(row_unit(magnitude.mean(dim=1)).to(device))
    summed = [torch.stack(parts).sum(dim=0) for parts in (rows_across, rows_along) if parts]
    rows = torch.cat(summed, dim=-1) / len(rows_along)
    # [B, H, n, 3] of each layer -> [B, n, L, H, 3].
    stacked = {
        name: torch.stack([part.to(device) for part in parts], dim=1).movedim(3, 1) for name, parts in sums.items()
    }
    return _Piece(logits=batched(chunk.logits.detach().float()), rows=rows, states=chunk.states, **stacked)
