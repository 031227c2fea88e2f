"""Retries that keep what holds of an answer and go on after it, judged as one answer."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from saliency_guard import (
    LVLM,
    Claim,
    ConfigError,
    GroundedAnswer,
    GuardPolicy,
    LocoREConfig,
    RetryPlan,
    SGRSConfig,
)
from saliency_guard.chat import detokenize
from saliency_guard.guard import retry
from saliency_guard.guard.continuation import continued, kept_text, require_continuing
from saliency_guard.scenes.claims import world_claims

TEXT = "There is a dog and two cups in the image. The dog is on the left."
PLAIN: dict[str, Any] = {"max_new_tokens": 48, "temperature": 0.0, "seed": 5}


def judged(answer: GroundedAnswer, text: str, low: set[str]) -> GroundedAnswer:
    """An answer with a text, whose claims about some nouns do not hold."""
    claims = tuple(
        Claim(
            text=text[each.start : each.stop],
            kind=each.kind,
            span=(each.start, each.stop),
            statement=each.statement,
            grounding=0.1 if {each.noun, each.other} & low else 0.95,
            noun=each.noun,
            other=each.other,
        )
        for each in world_claims(text)
    )
    least = min(claim.grounding or 0.0 for claim in claims)
    return answer.model_copy(update={"text": text, "claims": claims, "grounding": least, "grounding_reason": None})


def test_what_holds_is_kept_in_whole_sentences(answer: GroundedAnswer) -> None:
    assert kept_text(judged(answer, TEXT, {"cups"}), 0.5) == "There is a dog in the image. The dog is on the left."
    assert kept_text(judged(answer, TEXT, {"dog"}), 0.5) == "There are two cups in the image."
    assert kept_text(judged(answer, TEXT, {"dog", "cups"}), 0.5) == ""
    assert kept_text(judged(answer, TEXT, set()), 0.5) == ""  # No single claim fails.
    assert kept_text(answer.model_copy(update={"claims": ()}), 0.5) == ""


def test_the_model_goes_on_after_what_is_kept_and_all_of_it_is_judged(lvlm: LVLM, messages: Any) -> None:
    prompt = lvlm.prepare(messages)
    whole = lvlm.generate(prompt, **PLAIN)
    kept, _, rest = whole.text.partition(". ")
    kept = f"{kept}."
    assert rest
    again = continued(lvlm, prompt, kept, PLAIN, threading.Event())
    # A greedy answer, kept up to the end of its first sentence, goes on as it did.
    assert again.text == whole.text
    assert again.grounding == pytest.approx(whole.grounding, abs=1e-4)
    assert [claim.text for claim in again.claims] == [claim.text for claim in whole.claims]
    assert again.finish_reason == whole.finish_reason
    other = continued(lvlm, prompt, "There is nothing else.", PLAIN, threading.Event())
    assert other.text.startswith("There is nothing else.")
    assert "".join(token.text for token in other.tokens) == other.text


def test_what_is_kept_counts_among_the_tokens_there_may_be(lvlm: LVLM, messages: Any) -> None:
    prompt = lvlm.prepare(messages)
    kept = "There is a dog and"  # Nothing ends here.
    count = len(detokenize.encode(lvlm.tokenizer, kept).ids)
    short = continued(lvlm, prompt, kept, PLAIN | {"max_new_tokens": count + 3}, threading.Event())
    assert count < len(short.tokens) <= count + 3
    stopped = continued(lvlm, prompt, kept, PLAIN | {"stop": (".",)}, threading.Event())
    assert stopped.text.startswith(kept)
    assert len(stopped.text) > len(kept)
    assert "." not in stopped.text


@pytest.mark.parametrize(
    "option", [{"sgrs": SGRSConfig()}, {"locore": LocoREConfig()}, {"json_schema": {"type": "object"}}]
)
def test_options_that_look_back_at_the_answer_are_refused(lvlm: LVLM, messages: Any, option: dict[str, Any]) -> None:
    policy = GuardPolicy(min_grounding=0.9, max_retries=1, retry=RetryPlan(again="failed"))
    with pytest.raises(ConfigError, match=f'again="failed" continues an answer, which {next(iter(option))}'):
        policy.run(lvlm, messages, **option)


def test_models_that_read_a_prompt_both_ways_are_refused() -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="paligemma"))
    with pytest.raises(ConfigError, match="both ways"):
        require_continuing(SimpleNamespace(model=model, model_id="mine"), {})  # type: ignore[arg-type]


def test_a_policy_asks_again_for_what_failed(lvlm: LVLM, messages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = judged(lvlm.generate(messages, **PLAIN), TEXT, {"cups"})
    kept: list[str] = []

    def went_on(_: LVLM, __: Any, text: str, *___: Any) -> GroundedAnswer:
        kept.append(text)
        return judged(first, text, set())

    monkeypatch.setattr(retry, "continued", went_on)
    monkeypatch.setattr(LVLM, "generate", lambda *_, **__: first)
    policy = GuardPolicy(min_grounding=0.5, max_retries=2, retry=RetryPlan(again="failed"))
    outcome = policy.run(lvlm, messages, **PLAIN)
    assert kept == ["There is a dog in the image. The dog is on the left."]
    assert (outcome.decision, outcome.text) == ("accepted", kept[0])
    assert [attempt.verdict for attempt in outcome.attempts] == ["refused", "accepted"]
    assert outcome.attempts[1].change.startswith("kept what holds and went on after it; seed 6")


def test_guarantees_and_other_models_do_not_take_it() -> None:
    plan = RetryPlan(again="failed")
    with pytest.raises(ConfigError, match="needs min_grounding"):
        GuardPolicy(rules=({"signal": "nll", "above": 3.0},), max_retries=1, retry=plan)
    policy = GuardPolicy(min_grounding=0.5, max_retries=1, retry=plan)
    assert policy.untested == ['retry.again="failed"']
    with pytest.raises(ConfigError, match="continues an answer of a local model"):
        policy.planned_attempts()
