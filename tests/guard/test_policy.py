"""Accept, retry, flag, fall back: on the embedded model and its own calibration."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import synthetic
from tenacity import RetryCallState, stop_after_attempt, wait_fixed
from torch import Tensor

from saliency_guard import (
    LVLM,
    Calibrator,
    CancelledError,
    ConfigError,
    DeadlineError,
    GroundedAnswer,
    GuardOutcome,
    GuardPolicy,
    InputError,
    LowGroundingError,
    NoGuarantee,
    Records,
    RetryPlan,
    RiskGuarantee,
    SaliencyConfig,
    SGRSConfig,
    SignalRule,
)

# One process for all: what they share is made once.
pytestmark = pytest.mark.xdist_group("policy")

PLAIN: dict[str, Any] = {"max_new_tokens": 24}


@pytest.fixture(scope="module")
def made_up() -> Calibrator:
    return Calibrator.fit(synthetic.records(300, first=50_000), features="signals", held_out=0.0)


@pytest.fixture(scope="module")
def tested() -> Records:
    """Enough for a guarantee."""
    return synthetic.records(1000, rate=0.1)


@pytest.fixture(scope="module")
def single(tested: Records, made_up: Calibrator) -> GuardPolicy:
    """With a threshold that is guaranteed for one answer per prompt."""
    policy = GuardPolicy.calibrated(tested, risk=0.1, calibrator=made_up)
    assert isinstance(policy, GuardPolicy)
    return policy


def test_a_good_answer_is_accepted_at_once(lvlm: LVLM, messages: list[dict[str, Any]], answer: GroundedAnswer) -> None:
    outcome = GuardPolicy(min_grounding=0.01, on_low="raise").run(lvlm, messages, **PLAIN)
    assert outcome.accepted
    assert outcome.calibrated
    assert outcome.text == answer.text
    assert outcome.score == answer.grounding
    assert [attempt.refused for attempt in outcome.attempts] == [None]
    assert outcome.threshold == 0.01


def test_low_answers_are_retried_with_a_stated_change_and_the_best_is_flagged(
    lvlm: LVLM, messages: list[dict[str, Any]]
) -> None:
    outcome = GuardPolicy(min_grounding=1.0, max_retries=2).run(lvlm, messages, seed=1, **PLAIN)
    assert outcome.decision == "flagged"
    assert [attempt.change for attempt in outcome.attempts] == [
        "",
        "seed 2 at temperature 0.7",
        "seed 3 at temperature 0.7",
    ]
    assert all("is below 1.000" in (attempt.refused or "") for attempt in outcome.attempts)
    assert outcome.score == max(attempt.score for attempt in outcome.attempts)
    again = GuardPolicy(min_grounding=1.0, max_retries=2).run(lvlm, messages, seed=1, **PLAIN)
    assert [attempt.answer.text for attempt in again.attempts] == [attempt.answer.text for attempt in outcome.attempts]


def test_the_best_of_all_is_kept_where_that_is_the_plan(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    policy = GuardPolicy(min_grounding=0.0, max_retries=2, retry=RetryPlan(keep="best", temperature=1.0))
    outcome = policy.run(lvlm, messages, seed=3, **PLAIN)
    assert len(outcome.attempts) == 3
    assert outcome.score == max(attempt.score for attempt in outcome.attempts)


def test_an_error_carries_everything(lvlm: LVLM, messages: list[dict[str, Any]], answer: GroundedAnswer) -> None:
    with pytest.raises(LowGroundingError, match="grounded well enough after 1 attempt") as caught:
        GuardPolicy(min_grounding=1.0, on_low="raise").run(lvlm, messages, **PLAIN)
    assert caught.value.answer.text == answer.text
    assert caught.value.score == answer.grounding
    assert caught.value.threshold == 1.0
    assert len(caught.value.attempts) == 1


def test_an_answer_from_elsewhere_is_checked(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    right = lvlm.generate(messages, **PLAIN)
    wrong = lvlm.score(messages, "The image shows three elephants and a pizza.")
    assert wrong.grounding < 0.5 < right.grounding
    policy = GuardPolicy(min_grounding=0.5)
    assert policy.check(lvlm.score(messages, right.text)).accepted
    assert policy.check(wrong).decision == "flagged"


def test_without_a_calibrator_min_grounding_is_refused_and_rules_work(
    lvlm: LVLM, messages: list[dict[str, Any]], answer: GroundedAnswer
) -> None:
    bare = lvlm.with_calibrator(None)
    with pytest.raises(ConfigError, match="there is no calibrator"):
        GuardPolicy(min_grounding=0.5).run(bare, messages, **PLAIN)
    outcome = GuardPolicy(min_grounding=0.5).check(bare.generate(messages, **PLAIN))
    assert (outcome.decision, outcome.reason) == ("unscored", bare.score(messages, "A cat.").grounding_reason)
    policy = GuardPolicy(rules=(SignalRule("entropy", above=1e-9),))
    outcome = policy.run(bare, messages, **PLAIN)
    assert not outcome.accepted
    assert not outcome.calibrated
    assert outcome.score is None
    with pytest.raises(ConfigError, match=r"signals=\['entropy'\]"):
        policy.check(answer)


class SlowTokens:
    """A logits processor that takes so many seconds for every token after the first ones, and counts them."""

    def __init__(self, seconds: float, *, fast: int = 0) -> None:
        self.seconds = seconds
        self.fast = fast
        self.slow = 0

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        if self.fast:
            self.fast -= 1
        else:
            self.slow += 1
            time.sleep(self.seconds)
        return scores


def test_the_deadline_holds_within_the_first_attempt(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    tokens = SlowTokens(0.2)
    with pytest.raises(DeadlineError, match=r"deadline of 0\.5 s passed before the first answer"):
        GuardPolicy(min_grounding=0.0, deadline=0.5).run(lvlm, messages, logits_processor=tokens, **PLAIN)
    assert 1 <= tokens.slow <= 4  # Each takes 0.2 s: no more fit into 0.5 s, and the one that is written at its end.


def test_the_deadline_cuts_a_retry_off_and_the_first_answer_is_given_out(
    lvlm: LVLM, messages: list[dict[str, Any]]
) -> None:
    first = lvlm.generate(messages, max_new_tokens=2)  # The prompt is cached from here on.
    deadline = 4.0
    tokens = SlowTokens(deadline, fast=2)  # Two tokens are the first attempt.
    policy = GuardPolicy(min_grounding=1.0, max_retries=5, deadline=deadline)
    outcome = policy.run(lvlm, messages, logits_processor=tokens, max_new_tokens=2)
    assert [attempt.answer.text for attempt in outcome.attempts] == [first.text]
    assert outcome.decision == "unscored"  # Two tokens say nothing that counts.
    assert tokens.slow == 1


def test_there_is_no_retry_after_the_deadline(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    started: list[RetryCallState] = []
    policy = GuardPolicy(min_grounding=1.0, max_retries=5, deadline=600.0, before=started.append)
    steps = policy.steps(lvlm, messages, **PLAIN)
    first = next(steps)
    started[0].start_time -= 600.0  # The first attempt took longer than the deadline.
    (outcome,) = steps
    assert isinstance(outcome, GuardOutcome)
    assert outcome.attempts == (first,)
    assert outcome.decision == "flagged"


def test_the_timeout_is_for_the_whole_run(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    tokens = SlowTokens(0.2)
    with pytest.raises(DeadlineError, match=r"timeout=0\.5"):
        GuardPolicy(min_grounding=0.0).run(lvlm, messages, logits_processor=tokens, timeout=0.5, **PLAIN)
    assert 1 <= tokens.slow <= 4


def test_a_wait_can_be_cancelled(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    cancel = threading.Event()
    policy = GuardPolicy(min_grounding=1.0, max_retries=1, wait=wait_fixed(3600), before_sleep=lambda _: cancel.set())
    with pytest.raises(CancelledError):
        policy.run(lvlm, messages, cancel=cancel, **PLAIN)


def test_a_wait_ends_with_the_timeout(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    waits: list[float] = []
    policy = GuardPolicy(
        min_grounding=1.0,
        max_retries=1,
        wait=wait_fixed(3600),
        before_sleep=lambda state: waits.append(state.upcoming_sleep),
    )
    with pytest.raises(DeadlineError, match="timeout"):
        policy.run(lvlm, messages, timeout=10.0, max_new_tokens=4)
    assert waits == [3600]  # The answer was written in time, and the wait had begun.


def test_a_prompt_is_prepared_once_for_all_attempts(
    lvlm: LVLM, messages: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Any] = []
    prepare = lvlm._reader.prepare

    def counted(given: Any, **options: Any) -> Any:
        # What verifies claims, and what shows the picture mirrored, are other prompts.
        if "Is this true" not in str(given) and given[-1]["content"][-1].get("text") != "?":
            prepared.append(given)
        return prepare(given, **options)

    monkeypatch.setattr(lvlm._reader, "prepare", counted)
    outcome = GuardPolicy(min_grounding=1.0, max_retries=2).run(lvlm, messages, seed=1, max_new_tokens=8)
    assert (len(outcome.attempts), len(prepared)) == (3, 1)
    named = RetryPlan(new_seed=False, name_spans=True, weak=0.999999)
    GuardPolicy(min_grounding=1.0, max_retries=1, retry=named).run(lvlm, messages, **PLAIN)
    assert len(prepared) == 3  # Naming words changes the question.
    assert prepared[1] is messages
    assert "Check these words" in prepared[2][-1]["content"][-1]["text"]
    assert "Check these words" not in str(messages)


def test_sgrs_gets_stricter_with_every_retry(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    plan = RetryPlan(new_seed=False, alpha_step=0.2)
    policy = GuardPolicy(min_grounding=1.0, max_retries=1, retry=plan)
    outcome = policy.run(lvlm, messages, sgrs=SGRSConfig(alpha=0.5), max_new_tokens=8)
    assert [attempt.change for attempt in outcome.attempts] == ["", "alpha 0.7"]
    assert outcome.attempts[0].answer == lvlm.generate(messages, sgrs=SGRSConfig(alpha=0.5), max_new_tokens=8)
    assert outcome.attempts[1].answer == lvlm.generate(messages, sgrs=SGRSConfig(alpha=0.7), max_new_tokens=8)
    with pytest.raises(ConfigError, match=r"alpha_step=0\.2 changes SGRS, which is off"):
        policy.run(lvlm, messages, **PLAIN)


def test_cancelling_stops_between_tokens(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        GuardPolicy(min_grounding=0.0).run(lvlm, messages, cancel=cancel, **PLAIN)

    async def cancelled() -> None:
        policy = GuardPolicy(min_grounding=1.0, max_retries=100_000)
        task = asyncio.create_task(policy.arun(lvlm, messages, **PLAIN))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


def test_async_gives_the_same(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    policy = GuardPolicy(min_grounding=1.0, max_retries=1)
    outcome = asyncio.run(policy.arun(lvlm, messages, seed=4, **PLAIN))
    assert outcome == policy.run(lvlm, messages, seed=4, **PLAIN)


def test_a_threshold_with_a_guarantee(single: GuardPolicy) -> None:
    assert single.guarantee.threshold == single.min_grounding
    assert single.guarantee.observed < 0.1
    assert single.guarantee.units == 1000


def test_a_threshold_for_single_draws_is_refused_for_a_policy_with_retries(
    made_up: Calibrator, single: GuardPolicy
) -> None:
    with pytest.raises(ConfigError, match="nothing about max_retries=2"):
        GuardPolicy(min_grounding=single.min_grounding, guarantee=single.guarantee, max_retries=2)
    with pytest.raises(ConfigError, match="the guarantee is for min_grounding"):
        GuardPolicy(min_grounding=0.0, guarantee=single.guarantee)
    whole = GuardPolicy.calibrated(
        synthetic.records(600, rate=0.1, draws=3), risk=0.1, calibrator=made_up, max_retries=2
    )
    assert isinstance(whole.guarantee, RiskGuarantee)
    assert whole.guarantee.max_retries == 2
    with pytest.raises(ConfigError, match="says nothing about a single"):
        whole.check(synthetic.records(1).records[0].answer)


def test_a_guarantee_is_not_made_on_what_the_calibrator_has_seen(made_up: Calibrator) -> None:
    with pytest.raises(InputError, match="was fitted on picture"):
        GuardPolicy.calibrated(synthetic.records(300, first=50_000), calibrator=made_up)
    with pytest.raises(InputError, match="no calibrated grounding"):
        GuardPolicy.calibrated(synthetic.records(30))
    with pytest.raises(ConfigError, match="leave out min_grounding"):
        GuardPolicy.calibrated(synthetic.records(30), calibrator=made_up, min_grounding=0.5)
    with pytest.raises(ConfigError, match="metric"):
        GuardPolicy.calibrated(synthetic.records(30), calibrator=made_up, metric="answered")
    with pytest.raises(ConfigError, match="risk=0"):
        GuardPolicy.calibrated(synthetic.records(30), risk=0.0, calibrator=made_up)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"rules": (SignalRule("entropy", above=1.0),)}, "rules"),
        ({"deadline": 1.0}, "deadline"),
        ({"stop": stop_after_attempt(1), "max_retries": 1}, "stop"),
        ({"retry": RetryPlan(alpha_step=0.1)}, "alpha_step"),
        ({"retry": RetryPlan(name_spans=True)}, "name_spans"),
    ],
)
def test_a_guarantee_covers_only_what_was_tested(
    made_up: Calibrator, tested: Records, single: GuardPolicy, change: dict[str, Any], name: str
) -> None:
    with pytest.raises(ConfigError, match=name):
        GuardPolicy.calibrated(tested, risk=0.1, calibrator=made_up, **change)
    with pytest.raises(ConfigError, match=name):
        GuardPolicy(min_grounding=single.min_grounding, guarantee=single.guarantee, **change)


def test_answers_written_in_another_way_have_no_guarantee(
    lvlm: LVLM, messages: list[dict[str, Any]], made_up: Calibrator, tested: Records
) -> None:
    written = {"temperature": 0.0, "retry_temperature": 0.7, "max_new_tokens": 24, "sgrs": None, "locore": None}
    records = Records(synthetic.FINGERPRINT, tested, generation=written)
    policy = GuardPolicy.calibrated(records, risk=0.1, calibrator=made_up).model_copy(update={"calibrator": None})
    assert policy.run(lvlm, messages).guarantee == policy.guarantee
    assert policy.run(lvlm, messages).text == policy.run(lvlm, messages, **PLAIN).text
    assert policy.run(lvlm, messages, temperature=1.0).guarantee is None
    assert policy.check(lvlm.score(messages, "A cat.")).guarantee is None
    with pytest.raises(ConfigError, match="drawn at temperature"):
        GuardPolicy.calibrated(records, calibrator=made_up, max_retries=1, retry=RetryPlan(temperature=1.5), risk=0.1)


def test_an_answer_that_lacks_what_a_rule_looks_at_is_not_let_pass(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    bare = lvlm.generate(messages, saliency=None, max_new_tokens=8)
    with pytest.raises(ConfigError, match="has no signal 'saliency'"):
        GuardPolicy(rules=(SignalRule("saliency", below=0.0),)).check(bare)
    empty = bare.model_copy(update={"tokens": (), "text": ""})
    assert not GuardPolicy(rules=(SignalRule("entropy", above=0.0),)).check(empty).accepted


def test_answers_looked_at_otherwise_cannot_be_judged(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="saliency="):
        GuardPolicy(min_grounding=0.5).run(lvlm, messages, saliency=SaliencyConfig(layers=[1]))


def test_no_threshold_is_a_result(made_up: Calibrator) -> None:
    found = GuardPolicy.calibrated(synthetic.records(40), risk=0.05, calibrator=made_up)
    assert isinstance(found, NoGuarantee)
    assert found.units == 40


def test_a_saved_policy_decides_the_same(
    lvlm: LVLM, messages: list[dict[str, Any]], answer: GroundedAnswer, tmp_path: Path
) -> None:
    policy = GuardPolicy(
        min_grounding=0.4,
        max_retries=1,
        retry=RetryPlan(temperature=0.9),
        rules=(SignalRule("logprob", below=-9.0),),
        calibrator=lvlm.calibrator,
    )
    policy.save(tmp_path / "guard.json")
    loaded = GuardPolicy.load(tmp_path / "guard.json")
    assert loaded == policy
    assert loaded.check(answer) == policy.check(answer)
    bare = lvlm.with_calibrator(None)
    assert loaded.run(bare, messages, **PLAIN).score == answer.grounding
    (tmp_path / "guard.json").write_text('{"on_low": "flag"}')
    with pytest.raises(InputError, match="no policy of this version"):
        GuardPolicy.load(tmp_path / "guard.json")
    with pytest.raises(InputError, match="cannot read"):
        GuardPolicy.load(tmp_path / "none.json")
    (tmp_path / "guard.json").write_text('{"min_grounding": 0.5, "on_low": "retry"}')
    with pytest.raises(InputError, match="write max_retries=2"):
        GuardPolicy.load(tmp_path / "guard.json")
    (tmp_path / "guard.json").write_text('{"min_grounding": 0.5, "promise": null}')
    with pytest.raises(InputError, match="promise is called guarantee"):
        GuardPolicy.load(tmp_path / "guard.json")


def test_code_is_given_when_a_policy_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    policy = GuardPolicy(min_grounding=0.4, max_retries=3, on_low="fallback", fallback=len, stop=stop_after_attempt(2))
    policy.save(path)
    assert GuardPolicy.load(path) == policy.model_copy(update={"fallback": None, "stop": None})
    assert GuardPolicy.load(path, fallback=len, stop=policy.stop) == policy
    with pytest.raises(ConfigError, match="'max_retries' is saved with the policy"):
        GuardPolicy.load(path, max_retries=2)
