"""Signals: each against its own definition, and through LVLM."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from PIL import Image

from saliency_guard import LVLM, ConfigError, SaliencyConfig
from saliency_guard.signals import PRIORS, SIGNALS, compute
from saliency_guard.signals.trace import AnswerTrace, trace_answer

REPEATING = [5, 9, 5, 11, 5, 9, 13]


@pytest.fixture(scope="module")
def trace() -> AnswerTrace:
    case = tiny.build("llava-gqa")
    return trace_answer(case.model, case.inputs, REPEATING)


def test_every_signal_has_one_number_per_token_and_says_where_it_comes_from(trace: AnswerTrace) -> None:
    values = compute(trace, SIGNALS)
    assert list(values) == list(SIGNALS)
    for name, column in values.items():
        assert column.shape == (len(REPEATING),), name
        known = column[torch.isfinite(column)]
        assert len(known) >= len(REPEATING) - 2, name
        module = __import__(SIGNALS[name].__module__, fromlist=["x"])
        assert "Source:" in (module.__doc__ or ""), name
        assert module.__name__.endswith(f".{name}")


def test_uncertainty_is_read_from_the_distribution(trace: AnswerTrace) -> None:
    values = compute(trace, ("nll", "entropy", "margin"))
    for row, token in enumerate(REPEATING):
        probabilities = torch.distributions.Categorical(logits=trace.logits[row])
        assert float(values["nll"][row]) == pytest.approx(-float(probabilities.log_prob(torch.tensor(token))), rel=1e-4)
        assert float(values["entropy"][row]) == pytest.approx(float(probabilities.entropy()), rel=1e-4)
        first, second = sorted(probabilities.probs.tolist(), reverse=True)[:2]
        assert float(values["margin"][row]) == pytest.approx(first - second, rel=1e-3, abs=1e-6)


def test_saliency_and_its_ratio_are_the_papers(trace: AnswerTrace) -> None:
    values = compute(trace, ("saliency", "saliency_ratio"))
    scores = values["saliency"].tolist()
    assert math.isnan(scores[0])
    assert all(math.isnan(value) for value in values["saliency_ratio"][:2].tolist())
    recent = scores[1:6]
    assert float(values["saliency_ratio"][6]) == pytest.approx(scores[6] / (sum(recent) / 5), rel=1e-4)


def test_shares_and_attention_lie_between_nothing_and_everything(trace: AnswerTrace) -> None:
    values = compute(trace, ("image_share", "output_share", "svar", "pas"))
    for column in values.values():
        assert bool((column >= 0).all())
        assert bool((column <= 1 + 1e-6).all())
    assert float(values["output_share"][0]) == 0
    assert float(values["pas"][0]) == 0
    text = trace.scores.shares["text"]
    torch.testing.assert_close(values["image_share"] + values["output_share"] + text, torch.ones(len(REPEATING)))


def test_priors_know_neither_picture_nor_model(trace: AnswerTrace) -> None:
    values = compute(trace, PRIORS)
    assert values["position"].tolist() == list(range(len(REPEATING)))
    assert values["repetition"].tolist() == [0, 0, 1, 0, 2, 1, 0]


def test_contrast_is_the_log_ratio(trace: AnswerTrace) -> None:
    expected = trace.scores.logprobs - trace.blank_logprobs
    torch.testing.assert_close(compute(trace, ["contrast"])["contrast"], expected)


def test_the_lens_takes_the_best_position_of_all_layers(trace: AnswerTrace) -> None:
    assert compute(trace, ["logit_lens"])["logit_lens"].tolist() == trace.lens.flatten(0, 1).amax(0).tolist()
    similarity = compute(trace, ["glsim"])["glsim"]
    assert bool((similarity.abs() <= 1 + 1e-6).all())


def test_an_unknown_signal_is_refused_before_anything_runs(lvlm: LVLM, picture: Image.Image) -> None:
    message = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]}
    with pytest.raises(ConfigError, match="no signal is called 'magic'"):
        lvlm.stream([message], signals=["magic"])


def test_answers_carry_the_signals_that_were_asked_for(lvlm: LVLM, picture: Image.Image) -> None:
    message = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]}
    names = ("nll", "saliency", "contrast", "logit_lens")
    saliency = SaliencyConfig(layers=(0.0, 1.0))
    answer = lvlm.generate([message], max_new_tokens=8, saliency=saliency, signals=names, stop=("zzz",))
    assert all(set(token.signals) == set(names) for token in answer.tokens[1:])
    assert "saliency" not in answer.tokens[0].signals
    for token in answer.tokens[1:]:
        assert token.signals["nll"] == pytest.approx(-token.logprob, rel=1e-4, abs=1e-5)
        assert token.signals["saliency"] == pytest.approx(token.saliency, rel=1e-3)
    again = lvlm.score([message], answer.text, saliency=saliency, signals=names)
    assert [token.token_id for token in again.tokens] == [token.token_id for token in answer.tokens]
    for one, other in zip(again.tokens, answer.tokens, strict=True):
        assert one.signals == pytest.approx(other.signals, rel=1e-3, abs=1e-5)
    assert not any(token.signals for token in lvlm.generate([message], max_new_tokens=3).tokens)
