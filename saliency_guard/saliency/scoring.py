"""Scoring an answer, whoever wrote it: one prefill, then a pass and a backward pass per piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout, prompt_layout
from saliency_guard.models.attention import Tape
from saliency_guard.models.forward import run_whole, target_layers, unpadded
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Session
from saliency_guard.saliency.equations import (
    SaliencyConfig,
    SaliencyScores,
    answer_tensor,
    scores_of_rows,
    token_logprobs,
    token_rows,
    unit,
    weight_gradient,
    whole_gradients,
)
from saliency_guard.settings import require

SCORED_TOGETHER = 64
"""Tokens of one scored pass: what it keeps for its gradients grows with them, their price hardly falls further."""


def score_answer(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    answer_ids: Tensor | Sequence[int],
    *,
    config: SaliencyConfig | None = None,
    locore: LocoREConfig | None = None,
    layout: PromptLayout | None = None,
) -> SaliencyScores:
    """Score every token of an answer: one prefill, then a pass and a backward pass per 64 tokens (Eq. 3 to 6).

    Args:
        model: a transformers model with images and a causal decoder; left as it was.
        inputs: what its processor returns for one prompt (batch 1), ending where the answer begins.
        answer_ids: ``[N]`` or ``[1, N]`` token ids of the answer.
        config: target layers, norm and history; the default is ``SaliencyConfig()``.
        locore: the gains the answer was (or is thought to have been) written under.
        layout: sources of the prompt, where finer than images and text.

    Raises:
        InputError: if the inputs are no single prompt, or the answer is empty.
        ConfigError: if the layers are not there.
        NonFiniteError: if the model returns NaN.
        UnsupportedModelError: if its attention cannot be read.
    """
    require(SaliencyConfig, config)
    config = config or SaliencyConfig()
    if config.normalization == "matrix":
        answer = answer_tensor(answer_ids, model)
        return _score_by_matrix(model, inputs, answer, config=config, locore=locore, layout=layout)
    return score_continuation(Session(model, inputs, locore=locore, layout=layout), answer_ids, config)


def score_continuation(session: Session, answer_ids: Tensor | Sequence[int], config: SaliencyConfig) -> SaliencyScores:
    """`score_answer` for a prompt that has been read; what the session knows of the answer is not run again."""
    answer = answer_tensor(answer_ids, session.model)
    layers = target_layers(session.model, config.layers)
    length = session.prompt_length - 1 + len(answer)
    rows: list[Tensor] = []
    logprobs: list[Tensor] = []
    done = 0
    for chunk in session.run_pieces(answer, SCORED_TOGETHER, layers=layers):
        tokens = answer[done : done + chunk.rows].to(chunk.logits.device)
        found = token_rows(chunk, tokens)
        rows.append(functional.pad(found, (0, length - found.shape[1])))
        logprobs.append(token_logprobs(chunk.logits, tokens))
        done += chunk.rows
        del chunk  # The next pass needs the room.
    return scores_of_rows(torch.cat(rows), torch.cat(logprobs), config, session.layout)


def _score_by_matrix(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    answer: Tensor,
    *,
    config: SaliencyConfig,
    locore: LocoREConfig | None,
    layout: PromptLayout | None,
) -> SaliencyScores:
    """Eq. 5 with the norm of the whole matrix: one backward pass over the sequence per token."""
    inputs = unpadded(inputs)
    layout = layout or prompt_layout(model.config, inputs)
    tape = Tape(target_layers(model, config.layers), whole=True)
    logits = run_whole(model, inputs, answer.tolist(), tape, prompt_length=layout.length, locore=locore)
    answer = answer.to(logits.device)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    rows = torch.zeros(len(answer), layout.length + len(answer) - 1, dtype=dtype, device=logits.device)
    for index, token in enumerate(answer):
        query = layout.length - 1 + index
        gradients, _ = whole_gradients(tape, logits, index, token)
        for layer, gradient in zip(tape.layers, gradients, strict=True):
            record = tape.records[layer]
            matrix = (record.weights * weight_gradient(record, gradient)).abs().mean(dim=1)[0].tril()
            rows[index] += unit(matrix[query], matrix.norm()).to(rows)
    return scores_of_rows(rows / len(tape.layers), token_logprobs(logits, answer), config, layout)
