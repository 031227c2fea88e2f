"""What a trace sums over heads and sources, against brute-force autograd; and what it computes on demand."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch
from torch.nn import functional

from saliency_guard import ConfigError, LocoREConfig, SaliencyConfig, score_answer
from saliency_guard.signals.answer_rows import SOURCES
from saliency_guard.signals.trace import AnswerTrace, trace_answer


def _sources(case: tiny.Case, length: int) -> torch.Tensor:
    """``[length, 3]`` from the prompt's ids alone."""
    ids = case.inputs["input_ids"][0]
    kind = torch.full((length,), 2)
    kind[: len(ids)] = torch.where(ids == tiny.IMAGE, 0, 1)
    return functional.one_hot(kind, 3).double()


def test_sums_over_heads_and_sources_agree_with_brute_force(case: tiny.Case) -> None:
    trace = trace_answer(case.model, case.inputs, tiny.ANSWER)
    assert trace.attention.shape == trace.saliency.shape == trace.signed.shape
    assert trace.attention.shape[-1] == len(SOURCES)
    for target in range(len(tiny.ANSWER)):
        attention, gradient, logprob = oracle.token_maps(case.model, case.inputs, tiny.ANSWER, target)
        row, slope = attention[:, :, -1].double(), gradient[:, :, -1].double()
        sources = _sources(case, row.shape[-1])
        torch.testing.assert_close(trace.attention[target].double(), row @ sources, rtol=1e-4, atol=1e-6)
        # The trace leaves out the factor 1 - p that every gradient of this loss has.
        products = row * slope / (1 - logprob.exp())
        expected = products.abs() @ sources
        torch.testing.assert_close(trace.saliency[target].double(), expected, rtol=1e-4, atol=1e-6 * expected.max())
        torch.testing.assert_close(
            trace.signed[target].double(), -(products @ sources), rtol=1e-3, atol=1e-5 * float(expected.max())
        )


def test_scores_are_those_of_score_answer(case: tiny.Case) -> None:
    config = SaliencyConfig(layers=[1])
    locore = LocoREConfig(beta=0.7)
    trace = trace_answer(case.model, case.inputs, tiny.ANSWER, saliency=config, locore=locore)
    alone = score_answer(case.model, case.inputs, tiny.ANSWER, saliency=config, locore=locore)
    torch.testing.assert_close(trace.scores.saliency, alone.saliency, rtol=1e-5, atol=0, equal_nan=True)
    torch.testing.assert_close(trace.scores.logprobs, alone.logprobs, rtol=1e-5, atol=1e-6)
    assert list(trace.scores.shares) == list(alone.shares)


def test_states_and_lens_are_those_of_a_plain_forward_pass(case: tiny.Case) -> None:
    trace = trace_answer(case.model, case.inputs, tiny.ANSWER)
    logits, _ = oracle.forward(case.model, case.inputs, tiny.ANSWER, None)
    ids = case.inputs["input_ids"][0]
    assert trace.image_positions.tolist() == (ids == tiny.IMAGE).nonzero()[:, 0].tolist()
    assert all(states.shape[0] == len(tiny.ANSWER) + 1 for states in trace.output_states)
    assert all(states.shape[0] == len(trace.image_positions) for states in trace.image_states)
    # In the last layer the lens is the model's own output at the image positions.
    whole = logits.log_softmax(-1)[-(len(ids) + len(tiny.ANSWER)) :]
    expected = whole[ids == tiny.IMAGE if len(whole) == len(ids) else trace.image_positions][:, tiny.ANSWER]
    torch.testing.assert_close(trace.lens[-1], expected.detach(), rtol=1e-3, atol=1e-4)
    assert trace.lens.shape == (len(trace.lens_layers), len(trace.image_positions), len(tiny.ANSWER))


def test_a_blank_picture_changes_nothing_for_a_model_that_is_shown_one_anyway(llava: tiny.Case) -> None:
    blank = dict(llava.inputs, pixel_values=torch.zeros_like(llava.inputs["pixel_values"]))
    trace = trace_answer(llava.model, blank, tiny.ANSWER)
    torch.testing.assert_close(trace.blank_logprobs, trace.scores.logprobs, rtol=1e-4, atol=1e-5)
    other = trace_answer(llava.model, llava.inputs, tiny.ANSWER)
    torch.testing.assert_close(other.blank_logprobs, trace.scores.logprobs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other.blank_logprobs, other.scores.logprobs, atol=1e-4)


def test_a_trace_needs_rows(llava: tiny.Case) -> None:
    with pytest.raises(ConfigError, match="row"):
        trace_answer(llava.model, llava.inputs, tiny.ANSWER, saliency=SaliencyConfig(normalization="matrix"))


def test_small_gradients_count_in_float16() -> None:
    traces: list[AnswerTrace] = []
    for dtype in (torch.float64, torch.float16):
        case = tiny.to(tiny.build("llava-gqa"), torch.float64)
        with torch.no_grad():  # Gradients below the least number of float16, unless they are scaled.
            case.model.get_output_embeddings().weight *= 1e-4
            case.model.get_decoder().norm.weight *= 1e-4
        case = tiny.to(case, dtype)
        traces.append(trace_answer(case.model, case.inputs, tiny.ANSWER))
    double, half = (trace.saliency[1:].double() for trace in traces)
    torch.testing.assert_close(half / half.sum(), double / double.sum(), rtol=0.1, atol=5e-3)
    assert float(half.sum()) == pytest.approx(float(double.sum()), rel=0.05)
