"""Rules on raw signals, under their own names."""

from __future__ import annotations

import pytest
from synthetic import ratios

from saliency_guard import ConfigError, SignalRule, TokenFilter


def test_the_papers_criterion() -> None:
    rule = SignalRule("saliency_ratio", below=0.6)
    assert rule.refusal(ratios(0.6, 1.2)) is None
    assert rule.refusal(ratios(0.7, 0.5, 0.4)) == "saliency_ratio of token 1 is 0.5, below 0.6 (2 of 3 tokens)"
    assert rule.wanted == ("saliency_ratio",)


def test_either_side_may_be_bad_and_a_share_may_be_let_pass() -> None:
    assert SignalRule("saliency_ratio", above=1.0).refusal(ratios(0.5, 1.5)) is not None
    assert SignalRule("saliency_ratio", above=1.0, share=0.5).refusal(ratios(0.5, 1.5)) is None
    assert (
        SignalRule("logprob", below=-2.0).refusal(ratios(3.0)) == "logprob of token 0 is -3, below -2.0 (1 of 1 tokens)"
    )
    assert SignalRule("logprob", below=-2.0).wanted == ()


def test_what_has_no_signal_is_not_let_pass_unseen() -> None:
    first, second = ratios(1.0, 1.0).tokens
    bare = ratios(1.0, 1.0).model_copy(update={"tokens": (first.model_copy(update={"signals": {}}), second)})
    assert SignalRule("saliency_ratio", below=0.6).refusal(bare) is None  # The first has no history.
    with pytest.raises(ConfigError, match="no signal 'entropy'"):
        SignalRule("entropy", above=0.0).refusal(bare)
    words = TokenFilter(count="words", words=frozenset({"dog"}))
    assert "nothing in the answer counts" in SignalRule("saliency_ratio", below=9.0, tokens=words).refusal(bare)


@pytest.mark.parametrize("values", [{"signal": "magic", "below": 1.0}, {"signal": "entropy"}])
def test_rules_that_mean_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="SignalRule"):
        SignalRule(**values)  # type: ignore[arg-type]


def test_a_rule_has_one_signal() -> None:
    assert SignalRule(signal="entropy", above=1.0) == SignalRule("entropy", above=1.0)
    with pytest.raises(TypeError, match="positional argument"):
        SignalRule("entropy", "logprob", above=1.0)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="two signals"):
        SignalRule("entropy", signal="logprob", above=1.0)
