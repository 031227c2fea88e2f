"""The equations of the paper."""

from __future__ import annotations

import oracle
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from saliency_guard.saliency.equations import cotangents


def test_row_p_has_no_gradient_and_the_predictor_row_has(case: tiny.Case) -> None:
    """The released code reads the candidate's own row: in a causal model it is zero."""
    prompt, target = case.inputs["input_ids"].shape[1], 4
    logits, attentions = oracle.forward(case.model, case.inputs, tiny.ANSWER[: target + 1], None)
    predictor = prompt + target - 1
    loss = functional.cross_entropy(logits[predictor][None], torch.tensor([tiny.ANSWER[target]]))
    for gradient in torch.autograd.grad(loss, attentions):
        assert (gradient[0, :, predictor + 1] == 0).all()
        assert (gradient[0, :, predictor, : predictor + 1].abs().amax(-1) > 0).all()


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
