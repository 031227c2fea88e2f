"""Rules on raw signals, under their own names."""

from __future__ import annotations

import pytest
from synthetic import ratios

from saliency_guard import ConfigError, SignalRule, TokenFilter


def test_the_papers_criterion() -> None:
    rule = SignalRule("saliency_ratio", below=0.6)
    assert rule.refusal(ratios(0.6, 1.2)) is None
    assert rule.refusal(ratios(0.7, 0.5, 0.4)) == "saliency_ratio of 'cat' is 0.5, below 0.6 (2 of 3 tokens)"
    assert rule.wanted == ("saliency_ratio",)


def test_either_side_may_be_bad_and_a_share_may_be_let_pass() -> None:
    assert SignalRule("saliency_ratio", above=1.0).refusal(ratios(0.5, 1.5)) is not None
    assert SignalRule("saliency_ratio", above=1.0, share=0.5).refusal(ratios(0.5, 1.5)) is None
    assert (
        SignalRule("logprob", below=-2.0).refusal(ratios(3.0)) == "logprob of 'cat' is -3, below -2.0 (1 of 1 tokens)"
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


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_number_breaks_every_rule(wrong: float) -> None:
    """NaN is neither below nor above anything."""
    for rule in (SignalRule("saliency_ratio", below=-1e9), SignalRule("saliency_ratio", above=1e9)):
        assert rule.refusal(ratios(1.0, 0.5)) is None
        refused = rule.refusal(ratios(1.0, wrong))
        assert refused is not None
        assert "which says nothing (1 of 2 tokens)" in refused
    assert SignalRule("logprob", above=1e9).refusal(ratios(wrong)) is not None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", ["below", "above"])
def test_a_bound_is_a_number(side: str, wrong: float) -> None:
    with pytest.raises(ConfigError, match=side):
        SignalRule("entropy", **{side: wrong})
