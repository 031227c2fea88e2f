"""The one trace of an answer that all signals and the calibrator share: attention, its gradient, states, logits.

One pass and one backward pass over each piece of an answer give everything but what the logit lens and the blank
picture say, which is computed when it is first asked for. Several answers are traced side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from saliency_guard.chat.layout import OUTPUT, PromptLayout
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.inputs import answer_tensor
from saliency_guard.models.layers import attention_layers, target_layers
from saliency_guard.models.lens import lens_logits
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Chunk, Session, blank_inputs
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.equations import cotangents, layer_gradients, row_unit, token_logprobs, weight_gradient
from saliency_guard.saliency.scoring import SCORED_TOGETHER, SaliencyScores, scores_of_rows
from saliency_guard.settings import require

SOURCES = ("image", "text", "output")
"""The kinds of source along the last dimension of a trace's per-head numbers."""

MAX_LENS_POSITIONS = 64
MAX_LENS_LAYERS = 8
"""The logit lens takes one product with the whole vocabulary per position and layer: of a larger picture only the
positions that the answer looks at most are taken, of a deeper model evenly spaced layers."""


@dataclass(frozen=True, eq=False)
class AnswerTrace:
    """An answer of N tokens, seen from the predictor row of each, in L layers with attention of H heads.

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
        model: the model that was asked; left as it was.
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
        """Which of ``image_positions`` the lens looks at, in order; those with most of the answer's saliency."""
        positions = self.image_positions
        if len(positions) <= MAX_LENS_POSITIONS:
            return torch.arange(len(positions))
        looks = self.rows[:, positions.to(self.rows.device)].nan_to_num().mean(dim=0)
        return looks.topk(MAX_LENS_POSITIONS).indices.sort().values.cpu()

    @property
    def lens_positions(self) -> Tensor:
        """Positions of the prompt that the lens looks at."""
        return self.image_positions[self.lens_columns]

    @property
    def lens_layers(self) -> tuple[int, ...]:
        """Which of the states the lens is applied to; 0 are the embeddings."""
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
        """``[lens layers, lens positions]`` entropy (nats) of the logit lens: how sure it is of anything."""
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


BlankPrompt = Callable[[Session], Session]
"""From a prompt to the same one with uniform pictures."""


def read_blank(session: Session) -> Session:
    """The session's prompt with uniform pictures, read anew."""
    return Session(session.model, blank_inputs(session.inputs), locore=session.locore, layout=session.layout)


@dataclass(frozen=True, eq=False)
class BlankScores:
    """Several answers under uniform pictures, run side by side when one of them is first asked for.

    Attributes:
        sessions: the prompts.
        answers: ``[N]`` ids of each.
        read: a prompt with uniform pictures.
    """

    sessions: tuple[Session, ...]
    answers: tuple[Tensor, ...]
    read: BlankPrompt

    @cached_property
    def logprobs(self) -> list[Tensor]:
        """``[N]`` of each answer."""
        padded = _padded(self.answers)
        blanks = [self.read(session) for session in self.sessions]
        parts = [
            token_logprobs(logits.flatten(0, 1), padded[:, start : start + logits.shape[1]].flatten().to(logits.device))
            for start, logits in ((start, _batched(chunk.logits)) for start, chunk in _chunks(blanks, padded[:, :-1]))
        ]
        rows = torch.cat([part.view(len(blanks), -1) for part in parts], dim=1)
        return [row[: len(answer)] for row, answer in zip(rows, self.answers, strict=True)]


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
    """`trace_answer` for prompts that have been read, side by side.

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
    padded = _padded(checked)
    layers = attention_layers(model)
    targets = frozenset(target_layers(model, config.layers))
    before = _paddings(sessions)
    # The last row predicts nothing of the answer; it is run for the last token's states.
    pieces = [
        _traced(chunk, padded[:, start : start + chunk.rows], layers, targets, _masks(sessions, before, chunk))
        for start, chunk in _chunks(sessions, padded, layers=layers, with_states=True)
    ]
    widest = pieces[-1].rows.shape[-1]
    rows = torch.cat([functional.pad(piece.rows, (0, widest - piece.rows.shape[-1])) for piece in pieces], dim=1)
    logits = torch.cat([piece.logits for piece in pieces], dim=1)
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
_ROWS = SCORED_TOGETHER + 1  # An answer of as many tokens as are scored together is one piece.


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """What one pass over a piece of several answers leaves behind; attributes as of `AnswerTrace`, of a batch."""

    logits: Tensor
    rows: Tensor
    attention: Tensor
    saliency: Tensor
    signed: Tensor
    states: tuple[Tensor, ...]


def _traced(chunk: Chunk, asked: Tensor, layers: tuple[int, ...], targets: frozenset[int], masks: Tensor) -> _Piece:
    """Sums of attention and of attention times gradient over each source, and Eq. 5.

    Args:
        chunk: with a tape.
        asked: ``[B, n]`` the token each row is asked about.
        layers: all layers on the tape.
        targets: those that Eq. 5 is averaged over.
        masks: ``[B, K, 3]`` which key is image, text or output: first those that are only seen across, then all
            positions.
    """
    assert chunk.tape is not None  # noqa: S101 - layers were asked for
    tokens = asked.to(chunk.logits.device)
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
        if layer not in gradient_of:  # There is no picture that it could look at.
            for parts in sums.values():
                parts.append(torch.zeros_like(parts[0]))
            continue
        record = chunk.tape.records[layer]
        product = record.weights * weight_gradient(record, gradient_of[layer]) / scale
        of_source = (on_across if record.across else on_along).to(product)[:, None]
        magnitude = product.abs()
        sums["attention"].append(record.weights @ of_source)
        sums["saliency"].append(magnitude @ of_source)
        sums["signed"].append(-(product @ of_source))
        if layer in targets:
            (rows_across if record.across else rows_along).append(row_unit(magnitude.mean(dim=1)).to(device))
    summed = [torch.stack(parts).sum(dim=0) for parts in (rows_across, rows_along) if parts]
    rows = torch.cat(summed, dim=-1) / len(rows_along)
    # [B, H, n, 3] of each layer -> [B, n, L, H, 3].
    stacked = {
        name: torch.stack([part.to(device) for part in parts], dim=1).movedim(3, 1) for name, parts in sums.items()
    }
    return _Piece(logits=_batched(chunk.logits.detach().float()), rows=rows, states=chunk.states, **stacked)


def _chunks(
    sessions: Sequence[Session],
    padded: Tensor,
    *,
    layers: tuple[int, ...] | None = None,
    with_states: bool = False,
) -> Iterator[tuple[int, Chunk]]:
    """The rows from the last prompt token on, in pieces of `_ROWS` at most; each with its first row's index.

    Where rows of one pass would mix (recurrent layers), a piece is one row.

    Args:
        sessions: the prompts; what they were continued with is forgotten.
        padded: ``[B, n]`` answers; row t of the pass is the query that predicts token t.
        layers: as for `Session.run`.
        with_states: as for `Session.run`.
    """
    for session in sessions:
        session.crop(session.prompt_length - 1)
    fed = [[session.last_prompt_token, *row[:-1]] for session, row in zip(sessions, padded.tolist(), strict=True)]
    batch = Batch(sessions) if len(sessions) > 1 else None
    size = _ROWS if sessions[0].croppable else 1
    for start in range(0, padded.shape[1], size):
        piece = [row[start : start + size] for row in fed]
        if batch is None:
            yield start, sessions[0].run(piece[0], layers=layers, with_states=with_states)
        else:
            yield start, batch.run(piece, layers=layers, with_states=with_states)


def _padded(answers: Sequence[Tensor]) -> Tensor:
    """``[B, longest + 1]``: what stands after the end of an answer is seen by nothing before it."""
    longest = max(map(len, answers)) + 1
    return torch.stack([functional.pad(answer, (0, longest - len(answer))) for answer in answers])


def _paddings(sessions: Sequence[Session]) -> list[int]:
    """What stands before each prompt's first position where they are lined up at their ends."""
    longest = max(session.prompt_length for session in sessions)
    return [longest - session.prompt_length for session in sessions]


def _batched(logits: Tensor) -> Tensor:
    return logits if logits.ndim > 2 else logits[None]


def _masks(sessions: Sequence[Session], before: Sequence[int], chunk: Chunk) -> Tensor:
    """``[B, K, 3]`` which key is image, text or output, for all keys of a chunk: first those only seen across."""
    length = sessions[0].layout.beside + chunk.first_query + chunk.rows
    masks = torch.zeros(len(sessions), length, len(SOURCES))
    for number, (session, first) in enumerate(zip(sessions, before, strict=True)):
        layout = session.layout
        owner = layout.masks(length - first)
        image = owner[[name in layout.visual_sources for name in layout.sources]].any(dim=0)
        output = owner[layout.sources.index(OUTPUT)]
        masks[number, first:] = torch.stack([image, ~image & ~output, output], dim=1).float()
    return masks
