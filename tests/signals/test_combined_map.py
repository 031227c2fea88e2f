"""Saliency and logit lens together, against the sums written out."""

from __future__ import annotations

import math

import families
import pytest
import tiny
import torch

from saliency_guard import SaliencyConfig
from saliency_guard.models.session import Session
from saliency_guard.signals.combined_map import box_part, combined_map, word_map
from saliency_guard.signals.trace import AnswerTrace, trace_answer


@pytest.fixture(scope="module")
def trace() -> AnswerTrace:
    case = tiny.build("llava-gqa")
    return trace_answer(case.model, case.inputs, tiny.ANSWER)


@torch.no_grad()
def test_the_map_is_saliency_times_the_words_softmax_over_positions(trace: AnswerTrace) -> None:
    case = tiny.build("llava-gqa")
    positions = trace.image_positions.tolist()
    # All states of the whole sequence at once, and the model's own last layers on them.
    ids = torch.cat([case.inputs["input_ids"], torch.tensor([tiny.ANSWER])], dim=1)
    whole = {**case.inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    states = case.model(**whole, output_hidden_states=True).hidden_states
    norm, head = case.model.get_decoder().norm, case.model.get_output_embeddings()
    tokens = [3, 0]
    words, together = word_map(trace, tokens), combined_map(trace, tokens)
    assert words is not None
    for row, token in enumerate(tokens):
        logits = []
        for depth, state in enumerate(states):
            seen = state[0, positions]
            logits.append(head(seen if depth == len(states) - 1 else norm(seen))[:, tiny.ANSWER[token]].tolist())
        means = [math.fsum(column) / len(column) for column in zip(*logits, strict=True)]
        weights = [math.exp(mean) for mean in means]
        expected = [weight / math.fsum(weights) for weight in weights]
        assert words[row].tolist() == pytest.approx(expected, rel=1e-4)
        product = [float(trace.rows[token, at]) * word for at, word in zip(positions, expected, strict=True)]
        assert together[row].tolist() == pytest.approx([each / math.fsum(product) for each in product], rel=1e-4)


def test_without_a_lens_it_is_saliency() -> None:
    case = tiny.build("llava-gqa")
    trace = trace_answer(case.model, case.inputs, tiny.ANSWER)
    looks = trace.rows[:, trace.image_positions]
    assert box_part(trace) < 0.1
    del case.model.get_decoder().norm
    assert word_map(trace, [0]) is None
    assert box_part(trace) == 0.5
    expected = looks / looks.sum(dim=1, keepdim=True)
    torch.testing.assert_close(combined_map(trace, range(len(tiny.ANSWER))), expected)


def test_pictures_without_positions_and_no_tokens_have_no_columns_and_no_rows(trace: AnswerTrace) -> None:
    assert combined_map(trace, []).shape[0] == 0
    case = families.build("mllama")
    session = Session(case.model, case.inputs, with_image_states=True)
    across = trace_answer(case.model, case.inputs, tiny.ANSWER, saliency=SaliencyConfig(), layout=session.layout)
    assert combined_map(across, [0, 1]).shape == (2, 0)
