"""The numeric core against the brute-force oracle (tests/oracle.py)."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch
from torch.nn import functional

from saliency_guard import InputError, LocoREConfig, SaliencyConfig, score_answer
from saliency_guard.models.session import Session
from saliency_guard.saliency.equations import token_logprobs, token_rows
from saliency_guard.saliency.scoring import score_continuation, scores_of_rows

LAYERS = {"default": (0.5, 1.0), "single": [1], "all": (0.0, 1.0)}


def _indices(choice: str, case: tiny.Case) -> list[int]:
    depth = case.model.config.get_text_config().num_hidden_layers
    return {"default": list(range(depth // 2, depth)), "single": [1], "all": list(range(depth))}[choice]


def _start(case: tiny.Case, history: str) -> int:
    ids = case.inputs["input_ids"][0]
    return len(ids) if history == "output" else int((ids == tiny.IMAGE).nonzero().max()) + 1


@pytest.mark.parametrize(
    ("layers", "normalization", "history"),
    [
        ("default", "row", "output"),
        ("single", "row", "after_image"),
        ("single", "matrix", "output"),
        ("all", "matrix", "after_image"),
    ],
)
def test_scores_agree_with_brute_force(case: tiny.Case, layers: str, normalization: str, history: str) -> None:
    config = SaliencyConfig(layers=LAYERS[layers], normalization=normalization, history=history)
    scores = score_answer(case.model, case.inputs, torch.tensor(tiny.ANSWER), config=config)
    expected, logprobs, rows = oracle.saliency(
        case.model,
        case.inputs,
        tiny.ANSWER,
        layers=_indices(layers, case),
        start=_start(case, history),
        normalization=normalization,
    )
    assert torch.isnan(scores.saliency[0])
    torch.testing.assert_close(scores.saliency[1:].double(), expected[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-5)
    ids = case.inputs["input_ids"][0]
    images = int((ids == tiny.IMAGE).nonzero().max()) + 1
    total = rows.sum(-1)
    torch.testing.assert_close(
        scores.shares["output"].double(), rows[:, len(ids) :].sum(-1) / total, rtol=1e-4, atol=1e-7
    )
    on_images = rows[:, :images][:, ids[:images] == tiny.IMAGE].sum(-1) / total
    torch.testing.assert_close(
        (scores.shares["image_0"] + scores.shares["image_1"]).double(), on_images, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize(("layers", "renormalize"), [(None, False), ([0, 2], True)])
def test_scores_under_locore_agree_with_multiply_and_renormalise(
    case: tiny.Case, layers: list[int] | None, renormalize: bool
) -> None:
    prompt = case.inputs["input_ids"].shape[1]
    every = list(range(case.model.config.get_text_config().num_hidden_layers))
    locore = LocoREConfig(beta=0.4, window=3, layers=layers, renormalize=renormalize)
    scores = score_answer(case.model, case.inputs, tiny.ANSWER, locore=locore)
    expected, logprobs, _ = oracle.saliency(
        case.model,
        case.inputs,
        tiny.ANSWER,
        layers=_indices("default", case),
        start=prompt,
        locore={
            "layers": layers or every,
            "gamma": {"beta": 0.4, "window": 3, "output_start": prompt},
            "renormalize": renormalize,
        },
    )
    torch.testing.assert_close(scores.saliency[1:].double(), expected[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-5, atol=1e-5)
    plain = score_answer(case.model, case.inputs, tiny.ANSWER)
    assert not torch.allclose(plain.logprobs[1:], scores.logprobs[1:], rtol=1e-4)


def test_locore_with_beta_zero_is_bit_identical_to_off(case: tiny.Case) -> None:
    off = score_answer(case.model, case.inputs, tiny.ANSWER)
    zero = score_answer(case.model, case.inputs, tiny.ANSWER, locore=LocoREConfig(beta=0.0))
    assert torch.equal(off.logprobs, zero.logprobs)
    assert torch.equal(off.saliency[1:], zero.saliency[1:])


@pytest.mark.parametrize(("dtype", "layers"), [(torch.bfloat16, "default"), (torch.float16, "all")])
def test_half_precision_is_finite_and_close(case: tiny.Case, dtype: torch.dtype, layers: str) -> None:
    config = SaliencyConfig(layers=LAYERS[layers])
    full = score_answer(case.model, case.inputs, tiny.ANSWER, config=config)
    half_case = tiny.to(case, dtype)
    half = score_answer(half_case.model, half_case.inputs, tiny.ANSWER, config=config)
    assert torch.isfinite(half.saliency[1:]).all()
    assert torch.isfinite(half.logprobs).all()
    torch.testing.assert_close(half.saliency[1:].float(), full.saliency[1:], rtol=0.05, atol=0)


def test_a_token_the_model_is_sure_of_keeps_its_score_in_float16(llava: tiny.Case) -> None:
    """Its true gradient is far below what float16 holds; the score does not depend on that factor."""
    with torch.no_grad():
        llava.model.lm_head.weight.mul_(40)
    full = score_answer(llava.model, llava.inputs, tiny.ANSWER)
    case = tiny.to(llava, torch.float16)
    half = score_answer(case.model, case.inputs, tiny.ANSWER)
    assert torch.isfinite(half.saliency[1:]).all()
    torch.testing.assert_close(half.saliency[1:].float(), full.saliency[1:], rtol=0.05, atol=0)


def test_an_answer_is_scored_the_same_from_padded_inputs(llava: tiny.Case) -> None:
    plain = score_answer(llava.model, llava.inputs, tiny.ANSWER)
    ids, mask = llava.inputs["input_ids"], llava.inputs["attention_mask"]
    padded = dict(
        llava.inputs,
        input_ids=functional.pad(ids, (3, 0), value=0),
        attention_mask=functional.pad(mask, (3, 0), value=0),
    )
    again = score_answer(llava.model, padded, tiny.ANSWER)
    assert torch.equal(plain.saliency[1:], again.saliency[1:])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([], "token ids"),
        ([[1, 2], [3, 4]], "one answer"),
        ([1.5], "token ids"),
        ([99999], "vocabulary"),
        ([-1], "vocabulary"),
        ([True], "token ids"),
    ],
)
def test_an_answer_that_is_none_is_refused(llava: tiny.Case, answer: list, error: str) -> None:
    with pytest.raises(InputError, match=error):
        score_answer(llava.model, llava.inputs, torch.tensor(answer))


def test_a_batch_is_refused(llava: tiny.Case) -> None:
    inputs = dict(llava.inputs, input_ids=llava.inputs["input_ids"].repeat(2, 1))
    with pytest.raises(InputError, match="batch size 2"):
        score_answer(llava.model, inputs, tiny.ANSWER)


def test_a_long_answer_is_scored_in_pieces(case: tiny.Case) -> None:
    """What one pass keeps for its gradients is bounded; the scores are those of a single pass."""
    exact = tiny.to(case, torch.float64)
    answer = (tiny.ANSWER * 10)[:70]
    scores = score_answer(exact.model, exact.inputs, answer, locore=LocoREConfig())
    session = Session(exact.model, exact.inputs, locore=LocoREConfig())
    (whole,) = session.run_pieces(torch.tensor(answer), len(answer), layers=(3, 4))
    config = SaliencyConfig(layers=[3, 4])
    rows = token_rows(whole, torch.tensor(answer))
    ours = score_answer(exact.model, exact.inputs, answer, config=config, locore=LocoREConfig())
    single = scores_of_rows(rows, token_logprobs(whole.logits, torch.tensor(answer)), config, session.layout)
    torch.testing.assert_close(ours.saliency, single.saliency, rtol=1e-9, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(ours.logprobs, single.logprobs, rtol=1e-9, atol=1e-9)
    assert len(scores.saliency) == 70
    again = score_continuation(session, answer, config)  # from what the session knows
    torch.testing.assert_close(again.saliency, single.saliency, rtol=1e-9, atol=1e-12, equal_nan=True)
