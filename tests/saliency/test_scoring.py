"""The numeric core against the brute-force oracle (tests/oracle.py)."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from saliency_guard import ConfigError, InputError, LocoREConfig, SaliencyConfig, saliency_map, score_answer
from saliency_guard.chat.layout import PromptLayout, Span
from saliency_guard.models.session import Session
from saliency_guard.saliency.equations import cotangents, token_logprobs, token_rows
from saliency_guard.saliency.scoring import score_continuation, scores_of_rows
from saliency_guard.saliency.shares import row_shares

LAYERS = {"default": (0.5, 1.0), "single": [1], "all": (0.0, 1.0)}


def _indices(choice: str, case: tiny.Case) -> list[int]:
    depth = case.model.config.get_text_config().num_hidden_layers
    return {"default": list(range(depth // 2, depth)), "single": [1], "all": list(range(depth))}[choice]


def _start(case: tiny.Case, history: str) -> int:
    ids = case.inputs["input_ids"][0]
    return len(ids) if history == "output" else int((ids == tiny.IMAGE).nonzero().max()) + 1


@pytest.mark.parametrize("history", ["output", "after_image"])
@pytest.mark.parametrize("normalization", ["row", "matrix"])
@pytest.mark.parametrize("layers", list(LAYERS))
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


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("layers", [None, [0, 2]])
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layers", ["default", "all"])
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


def test_row_p_has_no_gradient_and_the_predictor_row_has(case: tiny.Case) -> None:
    """The released code reads the candidate's own row: in a causal model it is zero."""
    prompt, target = case.inputs["input_ids"].shape[1], 4
    logits, attentions = oracle.forward(case.model, case.inputs, tiny.ANSWER[: target + 1], None)
    predictor = prompt + target - 1
    loss = functional.cross_entropy(logits[predictor][None], torch.tensor([tiny.ANSWER[target]]))
    for gradient in torch.autograd.grad(loss, attentions):
        assert (gradient[0, :, predictor + 1] == 0).all()
        assert (gradient[0, :, predictor, : predictor + 1].abs().amax(-1) > 0).all()


@pytest.mark.parametrize("normalization", ["row", "matrix"])
@pytest.mark.parametrize("target", [0, 3, -1])
def test_full_map_agrees_with_brute_force(case: tiny.Case, normalization: str, target: int) -> None:
    config = SaliencyConfig(layers=(0.0, 1.0), normalization=normalization)
    found = saliency_map(case.model, case.inputs, tiny.ANSWER, target, config=config)
    index = target % len(tiny.ANSWER)
    attention, gradient, _ = oracle.token_maps(case.model, case.inputs, tiny.ANSWER, index)
    product = (attention * gradient).abs().tril()
    mean = product.mean(1)
    norm = mean.flatten(1).norm(dim=1)[:, None, None] if normalization == "matrix" else mean.norm(dim=-1, keepdim=True)
    scale = float(product.max())
    torch.testing.assert_close(found.saliency, product, rtol=1e-3, atol=1e-5 * scale)
    if normalization == "matrix":
        torch.testing.assert_close(found.normalized, mean / norm, rtol=1e-3, atol=1e-5)
    else:  # A row without saliency stays zero instead of 0 / 0.
        torch.testing.assert_close(found.normalized[:, -1], (mean / norm)[:, -1], rtol=1e-3, atol=1e-5)
    # The oracle's gradient has entries where nothing is attended to; the product is what counts.
    seen = attention > 0
    torch.testing.assert_close(
        found.gradient[seen], gradient[seen], rtol=1e-3, atol=1e-5 * float(gradient[seen].abs().max())
    )


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


@pytest.mark.parametrize("layers", [[9], [-9], (0.5, 0.4), (0.0, 1.5), []])
def test_layers_that_are_not_there_are_refused(llava: tiny.Case, layers: object) -> None:
    with pytest.raises(ConfigError, match="layers"):
        score_answer(llava.model, llava.inputs, tiny.ANSWER, config=SaliencyConfig(layers=layers))


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=9), st.data())
def test_cotangent_is_the_loss_gradient_up_to_its_factor(values: list[float], data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(values) - 1))
    logits = torch.tensor([values], dtype=torch.float64)
    probabilities = logits.softmax(-1)
    exact = probabilities - functional.one_hot(torch.tensor([token]), len(values))
    rest = 1 - probabilities[0, token]
    found = cotangents(logits, torch.tensor([token]))
    torch.testing.assert_close(found * rest, exact, rtol=1e-6, atol=1e-9)
    assert abs(float(found.sum())) < 1e-9


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**20))
def test_shares_sum_to_one(images: int, rows: int, seed: int) -> None:
    layout = PromptLayout(4 * images + 2, tuple(Span(f"image_{k}", 4 * k, 4 * k + 3) for k in range(images)))
    values = torch.rand(rows, layout.length + rows, generator=torch.Generator().manual_seed(seed)) + 1e-3
    shares = row_shares(values, layout)
    torch.testing.assert_close(sum(shares.values()), torch.ones(rows))
    assert set(shares) == {*(f"image_{k}" for k in range(images)), "text", "output"}


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
