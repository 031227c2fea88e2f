"""What one look at an answer leaves behind for detection signals: attention, its gradient, states, logits.

One prefill, one pass and one backward over the answer give everything but the hidden states and the
blank picture's log-probabilities, which are computed when a signal first asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import OUTPUT, PromptLayout
from saliency_guard.errors import ConfigError, UnsupportedModelError
from saliency_guard.models.inputs import answer_tensor
from saliency_guard.models.layers import attention_layers, target_layers
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Session, hidden_states
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.equations import cotangents, layer_gradients, row_unit, token_logprobs, weight_gradient
from saliency_guard.saliency.scoring import SaliencyScores, scores_of_rows
from saliency_guard.settings import require

SOURCES = ("image", "text", "output")
"""The kinds of source along the last dimension of a trace's per-head numbers."""


@dataclass(frozen=True, eq=False)
class AnswerTrace:
    """An answer of N tokens, seen from the predictor row of each, in L layers with attention of H heads.

    Attributes:
        tokens: ``[N]`` ids.
        logits: ``[N, V]`` float32, row t predicts ``tokens[t]``.
        rows: ``[N, T]`` the normalised predictor row of each token (Eq. 5, mean over the target layers).
        scores: Eq. 6, shares and log-probabilities under the configured target layers.
        attention: ``[N, L, H, 3]`` attention of the predictor row summed over each of `SOURCES`.
        saliency: ``[N, L, H, 3]`` the same of ``abs(A * gradient)`` (Eq. 4), up to a factor per token.
        signed: ``[N, L, H, 3]`` the same of ``-A * gradient``: above 0 where looking there speaks for the token.
        layout: sources of the prompt.
        model: the model that was asked; left as it was.
        inputs: the prompt's inputs.
        locore: the gains the answer was scored under.
    """

    tokens: Tensor
    logits: Tensor
    rows: Tensor
    scores: SaliencyScores
    attention: Tensor
    saliency: Tensor
    signed: Tensor
    layout: PromptLayout
    model: PreTrainedModel = field(repr=False)
    inputs: Mapping[str, Any] = field(repr=False)
    locore: LocoREConfig | None = None

    @cached_property
    def states(self) -> tuple[Tensor, ...]:
        """Hidden states of prompt and answer, ``[P + N, D]`` for the embeddings and after every layer."""
        return hidden_states(
            self.model, self.inputs, self.tokens.tolist(), prompt_length=self.layout.length, locore=self.locore
        )

    @cached_property
    def image_positions(self) -> Tensor:
        """``[I]`` positions of all images."""
        spans = [torch.arange(span.start, span.stop) for span in self.layout.spans if span.is_visual]
        return torch.cat(spans) if spans else torch.empty(0, dtype=torch.long)

    @property
    def lens(self) -> Tensor:
        """``[L + 1, I, N]`` log-probability of each token under the logit lens at each image position.

        NaN where the decoder keeps no final norm under the usual name (``norm``).
        """
        return self._through_lens[0]

    @property
    def lens_entropy(self) -> Tensor:
        """``[L + 1, I]`` entropy (nats) of the logit lens at each image position: how sure it is of anything."""
        return self._through_lens[1]

    @cached_property
    def _through_lens(self) -> tuple[Tensor, Tensor]:
        norm = getattr(self.model.get_decoder(), "norm", None)
        head = self.model.get_output_embeddings()
        if norm is None or head is None:
            unknown = torch.full((len(self.states), len(self.image_positions)), torch.nan)
            return unknown[..., None].expand(-1, -1, len(self.tokens)), unknown
        layers: list[Tensor] = []
        entropies: list[Tensor] = []
        with torch.no_grad():
            for depth, states in enumerate(self.states):
                there = states[self.image_positions.to(states.device)]
                # The last layer's states come normalised.
                logits = head(there if depth == len(self.states) - 1 else norm(there))
                logprobs = logits.float().log_softmax(-1)
                layers.append(logprobs[:, self.tokens.to(logits.device)])
                entropies.append(-(logprobs.exp() * logprobs).sum(-1))
        return torch.stack(layers), torch.stack(entropies)

    @cached_property
    def blank_logprobs(self) -> Tensor:
        """``[N]`` log-probability of each token with every picture uniform: zeros, after normalisation."""
        blank = {
            name: torch.zeros_like(value) if name.startswith("pixel_values") else value
            for name, value in self.inputs.items()
        }
        session = Session(self.model, blank, locore=self.locore, layout=self.layout)
        logits = session.run([session.last_prompt_token, *self.tokens[:-1].tolist()]).logits
        return token_logprobs(logits, self.tokens.to(logits.device))


def trace_answer(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    answer_ids: Tensor | Sequence[int],
    *,
    config: SaliencyConfig | None = None,
    locore: LocoREConfig | None = None,
    layout: PromptLayout | None = None,
) -> AnswerTrace:
    """Look at every token of an answer; arguments and errors as for `score_answer`.

    Raises:
        ConfigError: also for ``normalization="matrix"``, which has no rows to sum over.
    """
    require(SaliencyConfig, config)
    config = config or SaliencyConfig()
    return trace_continuation(Session(model, inputs, locore=locore, layout=layout), answer_ids, config)


def trace_continuation(session: Session, answer_ids: Tensor | Sequence[int], config: SaliencyConfig) -> AnswerTrace:
    """`trace_answer` for a prompt that has been read.

    Raises:
        UnsupportedModelError: if the model is recurrent: rows of one pass mix.
    """
    if config.normalization == "matrix":
        msg = 'a trace is made of rows: use normalization="row"'
        raise ConfigError(msg)
    model = session.model
    if not session.croppable:
        msg = f"{type(model).__name__} has recurrent layers: its answers can be scored, not traced"
        raise UnsupportedModelError(msg)
    answer = answer_tensor(answer_ids, model)
    targets = frozenset(target_layers(model, config.layers))
    every = attention_layers(model)
    chunk = session.run_answer(answer, layers=every)
    assert chunk.tape is not None  # noqa: S101 - layers were asked for
    tokens = answer.to(chunk.logits.device)
    records = [chunk.tape.records[layer] for layer in every]
    gradients, scale = layer_gradients(chunk.logits, records, cotangents(chunk.logits, tokens), retain_graph=False)
    masks = _source_masks(session.layout, session.layout.length - 1 + len(answer))
    rows = torch.zeros((), dtype=torch.float32)
    attention: list[Tensor] = []
    saliency: list[Tensor] = []
    signed: list[Tensor] = []
    for layer, record, gradient in zip(every, records, gradients, strict=True):
        product = record.weights[0] * weight_gradient(record, gradient)[0] / scale
        sums = masks.to(product)
        attention.append((record.weights[0] @ sums).transpose(0, 1))
        saliency.append((product.abs() @ sums).transpose(0, 1))
        signed.append(-(product @ sums).transpose(0, 1))
        if layer in targets:
            rows = rows + row_unit(product.abs().mean(dim=0)).to(chunk.logits.device)
    device = chunk.logits.device
    rows = rows / len(targets)
    return AnswerTrace(
        tokens=tokens,
        logits=chunk.logits.detach().float(),
        rows=rows,
        scores=scores_of_rows(rows, token_logprobs(chunk.logits, tokens), config, session.layout),
        attention=torch.stack([one.to(device) for one in attention], dim=1),
        saliency=torch.stack([one.to(device) for one in saliency], dim=1),
        signed=torch.stack([one.to(device) for one in signed], dim=1),
        layout=session.layout,
        model=model,
        inputs=session.inputs,
        locore=session.locore,
    )


def _source_masks(layout: PromptLayout, length: int) -> Tensor:
    """``[length, 3]`` which position is image, text or output."""
    masks = layout.masks(length)
    image = masks[[name in layout.visual_sources for name in layout.sources]].any(dim=0)
    output = masks[layout.sources.index(OUTPUT)]
    return torch.stack([image, ~image & ~output, output], dim=1)
