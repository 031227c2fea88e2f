"""Scoring an answer, whoever wrote it: one prefill, then a pass and a backward pass per piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout, prompt_layout
from saliency_guard.models.attention import Tape
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.fork_safety import uninterrupted
from saliency_guard.models.forward import check_supported, run_whole, undisturbed
from saliency_guard.models.inputs import answer_tensor, unpadded
from saliency_guard.models.layers import target_layers
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig, chosen_config
from saliency_guard.saliency.equations import (
    history_start,
    row_scores,
    token_logprobs,
    token_rows,
    unit,
    weight_gradient,
    whole_gradients,
)
from saliency_guard.saliency.shares import row_shares

SCORED_TOGETHER = 64
"""Tokens of one scored pass: what it keeps for its gradients grows with them, their price hardly falls further."""


@dataclass(frozen=True, slots=True, eq=False)
class SaliencyScores:
    """Scores of an answer of N tokens.

    Attributes:
        saliency: ``[N]`` Eq. 6 of each token; NaN for the first, which has no generated token before it.
        logprobs: ``[N]`` log-probability of each token (natural log).
        shares: per source ``[N]``, what part of the predictor row's saliency lies on it; they sum to 1.
    """

    saliency: Tensor
    logprobs: Tensor
    shares: Mapping[str, Tensor]


@uninterrupted()
def score_answer(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    answer_ids: Tensor | Sequence[int],
    *,
    saliency: SaliencyConfig | None = None,
    locore: LocoREConfig | None = None,
    layout: PromptLayout | None = None,
    config: SaliencyConfig | None = None,
) -> SaliencyScores:
    """Score every token of an answer: one prefill, then a pass and a backward pass per 64 tokens (Eq. 3 to 6).

    Args:
        model: a transformers model with images and a causal decoder; left as it was.
        inputs: what its processor returns for one prompt (batch 1), ending where the answer begins.
        answer_ids: ``[N]`` or ``[1, N]`` token ids of the answer.
        saliency: target layers, norm and history; the default is ``SaliencyConfig()``.
        locore: the gains the answer was (or is thought to have been) written under.
        layout: sources of the prompt, where finer than images and text.
        config: another name of ``saliency``.

    Raises:
        InputError: if the inputs are no single prompt, or the answer is empty.
        ConfigError: if the layers are not there.
        NonFiniteError: if the model returns NaN.
        UnsupportedModelError: if its attention cannot be read.
    """
    config = chosen_config(saliency, config)
    if config.normalization == "matrix":
        answer = answer_tensor(answer_ids, model)
        return _score_by_matrix(model, inputs, answer, config=config, locore=locore, layout=layout)
    return score_continuation(Session(model, inputs, locore=locore, layout=layout), answer_ids, config)


def score_continuation(session: Session, answer_ids: Tensor | Sequence[int], config: SaliencyConfig) -> SaliencyScores:
    """`score_answer` for a prompt that has been read; what the session knows of the answer is not run again."""
    answer = answer_tensor(answer_ids, session.model)
    layers = target_layers(session.model, config.layers)
    length = session.layout.beside + session.prompt_length - 1 + len(answer)
    rows: list[Tensor] = []
    logprobs: list[Tensor] = []
    done = 0
    for chunk in session.run_pieces(answer, SCORED_TOGETHER, layers=layers):
        tokens = answer[done : done + chunk.rows].to(chunk.logits.device)
        scored = token_rows(chunk, tokens)
        rows.append(functional.pad(scored, (0, length - scored.shape[1])))
        logprobs.append(token_logprobs(chunk.logits, tokens))
        done += chunk.rows
        del chunk  # The next pass needs the room.
    return scores_of_rows(torch.cat(rows), torch.cat(logprobs), config, session.layout)


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
    if len(sessions) == 1 or not all(session.joins for session in sessions):
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
            scored = token_rows(chunk, padded[:, piece])
            parts.append(functional.pad(scored, (0, whole - scored.shape[-1])))
            wanted = padded[:, piece].to(chunk.logits.device)
            likelihoods.append(torch.stack([token_logprobs(*pair) for pair in zip(chunk.logits, wanted, strict=True)]))
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
    check_supported(model, locore)
    inputs = unpadded(inputs)
    layout = layout or prompt_layout(model.config, inputs)
    tape = Tape(target_layers(model, config.layers), whole=True)
    logits = run_whole(model, inputs, answer.tolist(), tape, prompt_length=layout.length, locore=locore)
    answer = answer.to(logits.device)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    width = layout.length + len(answer) - 1
    along = torch.zeros(len(answer), width, dtype=dtype, device=logits.device)
    across = torch.zeros(len(answer), layout.beside, dtype=dtype, device=logits.device)
    records = tape.in_order()
    for index, token in enumerate(answer):
        query = layout.length - 1 + index
        gradients, _ = whole_gradients(tape, logits, index, token)
        for record, gradient in zip(records, gradients, strict=True):
            matrix = (record.weights * weight_gradient(record, gradient)).abs().mean(dim=1)[0]
            if record.across:
                across[index] += unit(matrix[query], matrix.norm()).to(across)
            else:
                matrix = matrix.tril()
                along[index] += unit(matrix[query], matrix.norm()).to(along)
    rows = torch.cat([across, along], dim=-1) / sum(not record.across for record in records)
    return scores_of_rows(rows, token_logprobs(logits, answer), config, layout)


def scores_of_rows(rows: Tensor, logprobs: Tensor, config: SaliencyConfig, layout: PromptLayout) -> SaliencyScores:
    """Scores and shares of a whole answer from its normalised predictor rows ``[N, T]``, and its logprobs ``[N]``."""
    first = layout.length - 1
    return SaliencyScores(
        saliency=row_scores(rows, first, history_start(config, layout), layout),
        logprobs=logprobs,
        shares=row_shares(rows, layout),
    )
