"""Models with recurrent layers: nothing can be taken back, so everything goes one step at a time, and is as exact."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch

from saliency_guard import LocoREConfig, SaliencyConfig, SGRSConfig, score_answer
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.layers import target_layers
from saliency_guard.models.session import Session


@pytest.fixture(params=list(tiny.RECURRENT))
def recurrent(request: pytest.FixtureRequest) -> tiny.Case:
    return tiny.build(request.param)


ATTENTION = (1, 3, 4)


def expected_scores(case: tiny.Case, answer: list[int], layers: tuple[int, ...], locore: LocoREConfig | None) -> tuple:
    prompt = case.inputs["input_ids"].shape[1]
    saliency, logprobs, _ = oracle.saliency(
        case.model,
        case.inputs,
        answer,
        layers=[ATTENTION.index(layer) for layer in layers],  # only layers that attend return attention
        start=prompt,
        locore=locore
        and {
            "layers": list(ATTENTION),
            "gamma": {"beta": locore.beta, "window": locore.window, "output_start": prompt},
            "renormalize": True,
        },
    )
    return saliency, logprobs


@pytest.mark.parametrize("locore", [None, LocoREConfig(beta=0.3, window=4)])
@pytest.mark.parametrize("layers", [(0.5, 1.0), (0.0, 1.0), [1]])
def test_scores_agree_with_brute_force(recurrent: tiny.Case, layers: object, locore: LocoREConfig | None) -> None:
    config = SaliencyConfig(layers=layers)
    scores = score_answer(recurrent.model, recurrent.inputs, tiny.ANSWER, config=config, locore=locore)
    saliency, logprobs = expected_scores(recurrent, tiny.ANSWER, target_layers(recurrent.model, config.layers), locore)
    torch.testing.assert_close(scores.saliency[1:].double(), saliency[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-5)


def test_what_is_generated_and_what_is_rejected_agree_with_brute_force(recurrent: tiny.Case) -> None:
    decoder = Decoder(Session(recurrent.model, recurrent.inputs), sgrs=SGRSConfig(alpha=0.95))
    tokens = [token.grounding for token in decoder.tokens(10)]
    answer = [token.token_id for token in tokens]
    layers = target_layers(recurrent.model, SaliencyConfig().layers)
    saliency, _ = expected_scores(recurrent, answer, layers, None)
    ours = torch.tensor([token.saliency for token in tokens[1:]], dtype=torch.float64)
    torch.testing.assert_close(ours, saliency[1:], rtol=1e-4, atol=0)
    assert any(token.rejected for token in tokens)
    for position, token in enumerate(tokens):
        for rejected in token.rejected:
            instead, _ = expected_scores(recurrent, [*answer[:position], rejected.token_id], layers, None)
            assert rejected.saliency == pytest.approx(float(instead[-1]), rel=1e-4)


def test_a_range_of_layers_means_those_that_attend(recurrent: tiny.Case) -> None:
    assert target_layers(recurrent.model, (0.0, 1.0)) == ATTENTION
    assert target_layers(recurrent.model, None) == ATTENTION


def test_it_begins_anew_after_its_prompt(recurrent: tiny.Case) -> None:
    session = Session(recurrent.model, recurrent.inputs)
    first = session.run([session.last_prompt_token]).logits
    session.run([5])
    session.crop(session.prompt_length - 1)
    assert session.tokens == []
    assert torch.equal(session.run([session.last_prompt_token]).logits, first)


def test_a_fork_is_its_own(recurrent: tiny.Case) -> None:
    session = Session(recurrent.model, recurrent.inputs)
    twin = session.fork(locore=None, layout=session.layout)
    first = session.run([session.last_prompt_token]).logits
    session.run([5])
    assert torch.equal(twin.run([session.last_prompt_token]).logits, first)
