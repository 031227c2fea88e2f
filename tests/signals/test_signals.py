"""All signals together: names, sources, and through LVLM; each has its own test file."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, ConfigError, SaliencyConfig
from saliency_guard.signals import SIGNALS, compute
from saliency_guard.signals.trace import AnswerTrace


def test_every_signal_has_one_number_per_token_and_says_where_it_comes_from(trace: AnswerTrace) -> None:
    values = compute(trace, SIGNALS)
    assert list(values) == list(SIGNALS)
    for name, column in values.items():
        assert column.shape == (len(trace.tokens),), name
        known = column[torch.isfinite(column)]
        assert len(known) >= len(trace.tokens) - 2, name
        module = __import__(SIGNALS[name].__module__, fromlist=["x"])
        assert "Source:" in (module.__doc__ or ""), name
        assert module.__name__.endswith(f".{name}")


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
    for scored, written in zip(again.tokens, answer.tokens, strict=True):
        assert scored.signals == pytest.approx(written.signals, rel=1e-3, abs=1e-5)
    assert not any(token.signals for token in lvlm.generate([message], max_new_tokens=3).tokens)
