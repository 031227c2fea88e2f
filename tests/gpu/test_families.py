"""Every family of models on a GPU: in double precision the scores of the CPU, which brute force has confirmed."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny
import torch
from family_checks import CLOSE, LENGTH, WIDER, decoded, generated, halved
from family_parts import prefixed

from saliency_guard import LocoREConfig, SaliencyConfig, SGRSConfig, score_answer, sgrs_generate
from saliency_guard.models.session import Session
from saliency_guard.saliency.scoring import score_together
from saliency_guard.signals.trace import trace_answer

DEVICE = "cuda"
READ = [name for name in families.NAMES if families.limit(name, "scores exact") is None]
LOCORE = LocoREConfig(beta=0.4, window=3)


def moved(case: tiny.Case) -> tiny.Case:
    return tiny.Case(case.model.to(DEVICE), {key: value.to(DEVICE) for key, value in case.inputs.items()})


def close(name: str, ours: torch.Tensor, wanted: torch.Tensor) -> None:
    """Some parts, such as rotary positions, are in single precision everywhere; all is where experts know no other."""
    apart = {"rtol": 5e-3, "atol": 5e-5} if name in families.SINGLE else {"rtol": 1e-4, "atol": 2e-6}
    torch.testing.assert_close(ours.cpu(), wanted.cpu(), equal_nan=True, **apart)


def same_scores(name: str, ours: Any, wanted: Any) -> None:
    close(name, ours.saliency, wanted.saliency)
    close(name, ours.logprobs, wanted.logprobs)
    assert ours.shares.keys() == wanted.shares.keys()
    for source, share in wanted.shares.items():
        close(name, ours.shares[source], share)


@pytest.mark.parametrize("name", READ)
def test_scores_and_traces_are_those_of_the_cpu(name: str) -> None:
    case = families.build(name)
    plain = score_answer(case.model, case.inputs, tiny.ANSWER)
    changed = score_answer(case.model, case.inputs, tiny.ANSWER, locore=LOCORE)
    trace = trace_answer(case.model, case.inputs, tiny.ANSWER)
    blank = trace.blank_logprobs  # Read when it is asked for, which has to be before the model is moved.
    case = moved(case)
    same_scores(name, score_answer(case.model, case.inputs, tiny.ANSWER), plain)
    same_scores(name, score_answer(case.model, case.inputs, tiny.ANSWER, locore=LOCORE), changed)
    on_gpu = trace_answer(case.model, case.inputs, tiny.ANSWER)
    close(name, on_gpu.attention, trace.attention)
    close(name, on_gpu.saliency, trace.saliency)
    close(name, on_gpu.blank_logprobs, blank)


@pytest.mark.parametrize("name", READ)
def test_answers_with_sgrs_are_those_of_the_cpu(name: str) -> None:
    sgrs = SGRSConfig(alpha=0.95, draft_length=4)
    case = families.build(name)
    wanted = decoded(case, sgrs=sgrs)
    ours = decoded(moved(case), sgrs=sgrs)
    assert [token.token_id for token in ours] == [token.token_id for token in wanted]
    for left, right in zip(ours, wanted, strict=True):
        assert [token.token_id for token in left.rejected] == [token.token_id for token in right.rejected]


@pytest.mark.parametrize("name", READ)
def test_greedy_answers_are_those_of_transformers(name: str) -> None:
    case = moved(families.build(name))
    plain = generated(case)
    assert [token.token_id for token in decoded(case)] == plain
    assert generated(case, custom_generate=sgrs_generate, sgrs=None) == plain


@pytest.mark.parametrize("name", READ)
def test_half_precision_is_close(name: str) -> None:
    for dtype, (apart, likelihood) in CLOSE.items():
        rounded = halved(families.build(name), dtype)  # The same weights, in as much precision as there is.
        exactly = halved(rounded, torch.float32 if name in families.SINGLE else torch.float64)
        wanted = score_answer(exactly.model, exactly.inputs, tiny.ANSWER)
        case = moved(halved(families.build(name), dtype))
        scores = score_answer(case.model, case.inputs, tiny.ANSWER)
        assert len(decoded(case, sgrs=SGRSConfig(alpha=0.5))) == LENGTH
        parts = ((scores.saliency.cpu().double() - wanted.saliency.double()).abs() / wanted.saliency.double())[1:]
        assert float(parts.median()) <= apart * WIDER.get(name, 1.0)
        possible = wanted.logprobs > -1e4  # Some rule tokens out, by numbers that have no like in another precision.
        differences = (scores.logprobs.cpu().double() - wanted.logprobs.double())[possible].abs()
        assert float(differences.max()) <= likelihood * WIDER.get(name, 1.0)
        for source, share in wanted.shares.items():
            assert float((scores.shares[source].cpu().double() - share.double()).abs().median()) <= apart


@pytest.mark.parametrize("name", READ)
def test_a_batch_has_the_scores_of_its_answers_alone(name: str) -> None:
    case = moved(families.build(name))
    prompts = [case.inputs, prefixed(case, [1, 7, 5])]
    answers = [tiny.ANSWER, tiny.ANSWER[:5]]
    together = score_together([Session(case.model, inputs) for inputs in prompts], answers, SaliencyConfig())
    for inputs, answer, scores in zip(prompts, answers, together, strict=True):
        same_scores(name, scores, score_answer(case.model, inputs, answer))
