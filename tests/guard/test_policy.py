"""Accept, retry, flag, fall back: on the embedded model and its own calibration."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import synthetic
from PIL import Image

from saliency_guard import (
    LVLM,
    Calibrator,
    CancelledError,
    ConfigError,
    DeadlineError,
    GroundedAnswer,
    GuardPolicy,
    InputError,
    LowGroundingError,
    NoPromise,
    Promise,
    Records,
    RetryPlan,
    SaliencyConfig,
    SignalRule,
)
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE

PLAIN: dict[str, Any] = {"sgrs": None, "locore": None, "max_new_tokens": 24}


@pytest.fixture(scope="module")
def messages(picture: Image.Image) -> list[dict[str, Any]]:
    return chat(picture, DESCRIBE)


@pytest.fixture(scope="module")
def answer(lvlm: LVLM, messages: list[dict[str, Any]]) -> GroundedAnswer:
    return lvlm.generate(messages, **PLAIN)


@pytest.fixture(scope="module")
def made_up() -> Calibrator:
    return Calibrator.fit(synthetic.records(300, first=50_000), features="signals", held_out=0.0)


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
    outcome = GuardPolicy(min_grounding=1.0, on_low="retry", max_retries=2).run(lvlm, messages, seed=1, **PLAIN)
    assert outcome.decision == "flagged"
    assert [attempt.change for attempt in outcome.attempts] == [
        "",
        "seed 2 at temperature 0.7",
        "seed 3 at temperature 0.7",
    ]
    assert all("is below 1.000" in (attempt.refused or "") for attempt in outcome.attempts)
    assert outcome.score == max(attempt.score for attempt in outcome.attempts)
    again = GuardPolicy(min_grounding=1.0, on_low="retry", max_retries=2).run(lvlm, messages, seed=1, **PLAIN)
    assert [one.answer.text for one in again.attempts] == [one.answer.text for one in outcome.attempts]


def test_greedy_attempts_that_would_repeat_themselves_are_not_made(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    policy = GuardPolicy(min_grounding=1.0, on_low="retry", max_retries=5, retry=RetryPlan(new_seed=False))
    assert len(policy.run(lvlm, messages, **PLAIN).attempts) == 1


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


def test_a_fallback_is_asked_with_messages_and_attempts(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    seen: list[Any] = []

    def fallback(asked: Any, attempts: Any) -> str:
        seen.append((asked, attempts))
        return "I cannot say."

    outcome = GuardPolicy(min_grounding=1.0, on_low="fallback", fallback=fallback).run(lvlm, messages, **PLAIN)
    assert (outcome.decision, outcome.text, outcome.answer, outcome.score) == ("fallback", "I cannot say.", None, None)
    assert seen[0][0] is messages
    assert seen[0][1] == outcome.attempts
    other = GuardPolicy(
        min_grounding=1.0, on_low="retry", fallback=lambda *_: outcome.attempts[0].answer, max_retries=1
    )
    assert other.run(lvlm, messages, **PLAIN).answer == outcome.attempts[0].answer
    with pytest.raises(ConfigError, match="needs fallback"):
        GuardPolicy(min_grounding=1.0, on_low="fallback").check(outcome.attempts[0].answer)


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
    with pytest.raises(ConfigError, match="there is no calibrator"):
        GuardPolicy(min_grounding=0.5).check(bare.generate(messages, **PLAIN))
    policy = GuardPolicy(rules=(SignalRule("entropy", above=1e-9),))
    outcome = policy.run(bare, messages, **PLAIN)
    assert not outcome.accepted
    assert not outcome.calibrated
    assert outcome.score is None
    with pytest.raises(ConfigError, match=r"signals=\['entropy'\]"):
        policy.check(answer)


def test_an_answer_in_which_nothing_counts_is_refused(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    scored = lvlm.score(messages, "It is there.")
    assert scored.grounding is None
    assert scored.calibrated
    assert "nothing in the answer counts" in GuardPolicy(min_grounding=0.1).check(scored).attempts[0].refused


def test_the_deadline_holds_within_an_attempt_and_between_attempts(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(DeadlineError, match="before the first answer"):
        GuardPolicy(min_grounding=0.0, deadline=1e-9).run(lvlm, messages, **PLAIN)
    begun = time.monotonic()
    policy = GuardPolicy(min_grounding=1.0, on_low="retry", max_retries=10_000, deadline=1.0)
    outcome = policy.run(lvlm, messages, **PLAIN)
    assert time.monotonic() - begun < 30
    assert 1 <= len(outcome.attempts) < 10_000
    assert outcome.decision == "flagged"


def test_cancelling_stops_between_tokens(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        GuardPolicy(min_grounding=0.0).run(lvlm, messages, cancel=cancel, **PLAIN)

    async def cancelled() -> None:
        policy = GuardPolicy(min_grounding=1.0, on_low="retry", max_retries=100_000)
        task = asyncio.create_task(policy.arun(lvlm, messages, **PLAIN))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


def test_async_gives_the_same(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    policy = GuardPolicy(min_grounding=1.0, on_low="retry", max_retries=1)
    outcome = asyncio.run(policy.arun(lvlm, messages, seed=4, **PLAIN))
    assert outcome == policy.run(lvlm, messages, seed=4, **PLAIN)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "min_grounding or at least one rule"),
        ({"min_grounding": 1.5}, "min_grounding"),
        ({"min_grounding": 0.5, "max_retries": -1}, "max_retries"),
        ({"min_grounding": 0.5, "on_low": "ignore"}, "on_low"),
        ({"min_grounding": 0.5, "deadline": 0}, "deadline"),
        ({"min_grounding": 0.5, "retrys": 2}, "retrys"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GuardPolicy(**values)


def test_a_threshold_with_a_promise(made_up: Calibrator) -> None:
    policy = GuardPolicy.calibrated(synthetic.records(2000, rate=0.1), risk=0.1, calibrator=made_up)
    assert isinstance(policy, GuardPolicy)
    assert policy.promise.threshold == policy.min_grounding
    assert policy.promise.observed < 0.1
    assert policy.promise.units == 2000


def test_a_threshold_for_single_draws_is_refused_for_a_policy_with_retries(made_up: Calibrator) -> None:
    single = GuardPolicy.calibrated(synthetic.records(2000, rate=0.1), risk=0.1, calibrator=made_up)
    with pytest.raises(ConfigError, match="says nothing about max_retries=2"):
        GuardPolicy(min_grounding=single.min_grounding, promise=single.promise, max_retries=2)
    with pytest.raises(ConfigError, match="the promise is for min_grounding"):
        GuardPolicy(min_grounding=0.0, promise=single.promise)
    whole = GuardPolicy.calibrated(
        synthetic.records(2000, rate=0.1, draws=3), risk=0.1, calibrator=made_up, max_retries=2
    )
    assert isinstance(whole.promise, Promise)
    assert whole.promise.max_retries == 2
    with pytest.raises(ConfigError, match="says nothing about a single"):
        whole.check(synthetic.records(1).records[0].answer)


def test_a_promise_is_not_made_on_what_the_calibrator_has_seen(made_up: Calibrator) -> None:
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
        ({"retry": RetryPlan(alpha_step=0.1)}, "alpha_step"),
        ({"retry": RetryPlan(name_spans=True)}, "name_spans"),
    ],
)
def test_a_promise_covers_only_what_was_tested(made_up: Calibrator, change: dict[str, Any], name: str) -> None:
    records = synthetic.records(2000, rate=0.1)
    with pytest.raises(ConfigError, match=name):
        GuardPolicy.calibrated(records, risk=0.1, calibrator=made_up, **change)
    single = GuardPolicy.calibrated(records, risk=0.1, calibrator=made_up)
    with pytest.raises(ConfigError, match=name):
        GuardPolicy(min_grounding=single.min_grounding, promise=single.promise, **change)


def test_answers_written_in_another_way_have_no_promise(
    lvlm: LVLM, messages: list[dict[str, Any]], made_up: Calibrator
) -> None:
    written = {"temperature": 0.0, "retry_temperature": 0.7, "max_new_tokens": 24, "sgrs": None, "locore": None}
    records = Records(synthetic.FINGERPRINT, synthetic.records(2000, rate=0.1), generation=written)
    policy = GuardPolicy.calibrated(records, risk=0.1, calibrator=made_up).model_copy(update={"calibrator": None})
    assert policy.run(lvlm, messages).promise == policy.promise
    assert policy.run(lvlm, messages).text == policy.run(lvlm, messages, **PLAIN).text
    assert policy.run(lvlm, messages, temperature=1.0).promise is None
    assert policy.check(lvlm.score(messages, "A cat.")).promise is None
    with pytest.raises(ConfigError, match="drawn at temperature"):
        GuardPolicy.calibrated(records, calibrator=made_up, max_retries=1, retry=RetryPlan(temperature=1.5), risk=0.1)


def test_an_answer_that_lacks_what_a_rule_looks_at_is_not_let_pass(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    bare = lvlm.generate(messages, saliency=None, max_new_tokens=8)
    with pytest.raises(ConfigError, match="has no signal 'saliency'"):
        GuardPolicy(rules=(SignalRule("saliency", below=0.0),)).check(bare)
    empty = bare.model_copy(update={"tokens": (), "text": ""})
    assert not GuardPolicy(rules=(SignalRule("entropy", above=0.0),)).check(empty).accepted


def test_what_a_fallback_gives_is_checked(answer: GroundedAnswer) -> None:
    policy = GuardPolicy(min_grounding=1.0, on_low="fallback", fallback=lambda *_: None)
    with pytest.raises(ConfigError, match="the fallback gave None"):
        policy.check(answer)


def test_answers_looked_at_otherwise_cannot_be_judged(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="saliency="):
        GuardPolicy(min_grounding=0.5).run(lvlm, messages, saliency=SaliencyConfig(layers=[1]))


NO_PROBABILITY = [float("nan"), float("inf"), -float("inf"), 1.5, -0.5]


@pytest.mark.parametrize("wrong", NO_PROBABILITY)
def test_what_is_no_probability_is_refused_and_never_wins(answer: GroundedAnswer, wrong: float) -> None:
    """NaN is below nothing: a comparison alone would let it pass."""
    spoilt = answer.model_copy(update={"grounding": wrong})
    for threshold in (0.0, 1.0):
        outcome = GuardPolicy(min_grounding=threshold).check(spoilt)
        assert outcome.decision == "flagged"
        assert "is no probability" in outcome.attempts[0].refused
    low = answer.model_copy(update={"grounding": 0.01})
    for keep in ("first", "best"):
        policy = GuardPolicy(min_grounding=0.5, on_low="retry", retry=RetryPlan(keep=keep))
        for order in ([spoilt, low], [low, spoilt]):
            assert policy.decided(tuple(map(policy.considered, order))).answer is low
        good = policy.considered(answer.model_copy(update={"grounding": 0.9}))
        assert policy.decided((policy.considered(spoilt), good)).answer is good.answer


@pytest.mark.parametrize("wrong", NO_PROBABILITY)
def test_a_policy_never_has_a_threshold_that_is_none(wrong: float) -> None:
    with pytest.raises(ConfigError, match="min_grounding"):
        GuardPolicy(min_grounding=wrong)


def test_records_whose_scores_are_none_promise_nothing_for_them(made_up: Calibrator) -> None:
    records = synthetic.records(2000, rate=0.1)
    plain = GuardPolicy.calibrated(records, risk=0.1, calibrator=made_up)
    judged = [
        record.model_copy(update={"answer": record.answer.model_copy(update={"grounding": score, "calibrated": True})})
        for record in records
        for score in [made_up.judge_record(record).answer]
    ]
    spoilt = [
        record.model_copy(
            update={
                "picture": f"spoilt {record.picture}",
                "grounded": False,
                "answer": record.answer.model_copy(update={"grounding": float("nan"), "calibrated": True}),
            }
        )
        for record in synthetic.records(200, first=90_000)
    ]
    found = GuardPolicy.calibrated(Records(synthetic.FINGERPRINT, [*judged, *spoilt]), risk=0.1)
    assert isinstance(found, GuardPolicy)
    assert isinstance(plain, GuardPolicy)
    assert found.promise.threshold == plain.promise.threshold
    assert found.promise.observed == plain.promise.observed


def test_a_saved_policy_with_numbers_that_are_none_is_refused(
    lvlm: LVLM, answer: GroundedAnswer, tmp_path: Path, made_up: Calibrator
) -> None:
    path = tmp_path / "guard.json"
    GuardPolicy.calibrated(synthetic.records(2000, rate=0.1), risk=0.1, calibrator=made_up).save(path)
    text = path.read_text()
    for before, after in [
        ('"min_grounding":', '"min_grounding":NaN,"was":'),
        ('"min_grounding":', '"min_grounding":1e999,"was":'),
        ('"min_grounding":', '"min_grounding":0.0,"min_grounding":'),
        ('"risk":', '"risk":1.5,"was":'),
        ('"groups":["signals"]', '"groups":["attention","signals"]'),
        ('"scale":[', '"scale":[0.0,'),
    ]:
        assert before in text
        path.write_text(text.replace(before, after, 1))
        with pytest.raises(InputError, match="no policy of this version"):
            GuardPolicy.load(path)


def test_an_error_goes_from_one_process_to_another(answer: GroundedAnswer) -> None:
    with pytest.raises(LowGroundingError) as caught:
        GuardPolicy(min_grounding=1.0, on_low="raise").check(answer)
    sent = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (str(sent), sent.attempts, sent.score) == (str(caught.value), caught.value.attempts, caught.value.score)


def test_no_threshold_is_a_result(made_up: Calibrator) -> None:
    found = GuardPolicy.calibrated(synthetic.records(40), risk=0.05, calibrator=made_up)
    assert isinstance(found, NoPromise)
    assert found.units == 40


def test_a_saved_policy_decides_the_same(
    lvlm: LVLM, messages: list[dict[str, Any]], answer: GroundedAnswer, tmp_path: Path
) -> None:
    policy = GuardPolicy(
        min_grounding=0.4,
        on_low="retry",
        retry=RetryPlan(alpha_step=0.1),
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
