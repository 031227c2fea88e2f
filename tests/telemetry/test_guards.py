"""The span of a policy's run, wherever the policy is run."""

from __future__ import annotations

import pytest
from in_memory_telemetry import Telemetry
from PIL import Image

from saliency_guard import LVLM, ConfigError, GuardPolicy, LowGroundingError
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.telemetry import instrument
from saliency_guard.telemetry.names import ATTEMPT_EVENT, EVALUATION_EVENT

ASKED = "Is there a pizza in the image?"


def test_a_run_has_a_span_with_its_attempts_inside(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    policy = GuardPolicy(min_grounding=1.0, max_retries=1)
    outcome = policy.run(lvlm, chat(picture, DESCRIBE), max_new_tokens=16, seed=0)
    (guard,) = telemetry.spans("guardrail")
    attributes = dict(guard.attributes or {})
    assert attributes["openinference.span.kind"] == "GUARDRAIL"
    assert attributes["saliency_guard.decision"] == outcome.decision == "flagged"
    assert attributes["saliency_guard.score"] == outcome.score
    assert attributes["saliency_guard.threshold"] == 1.0
    assert attributes["saliency_guard.attempts"] == 2
    assert attributes["saliency_guard.policy.on_low"] == "flag"
    attempts = [dict(event.attributes or {}) for event in guard.events if event.name == ATTEMPT_EVENT]
    assert [attempt["saliency_guard.attempt.verdict"] for attempt in attempts] == ["refused", "refused"]
    assert attempts[1]["saliency_guard.attempt.change"] == outcome.attempts[1].change != ""
    (result,) = [event for event in guard.events if event.name == EVALUATION_EVENT]
    assert dict(result.attributes or {})["gen_ai.evaluation.score.label"] == "flagged"
    answers = telemetry.spans("chat")
    assert len(answers) == 2
    assert {span.parent.span_id for span in answers} == {guard.context.span_id}
    assert all(dict(span.attributes or {})["saliency_guard.is_attempt"] for span in answers)
    (decided,) = telemetry.metric("saliency_guard.decisions")
    assert (decided.value, decided.attributes["saliency_guard.decision"]) == (1, "flagged")


def test_what_a_policy_lets_through_to_nobody_is_no_error(
    lvlm: LVLM, picture: Image.Image, telemetry: Telemetry
) -> None:
    told = []
    instrument(**telemetry.providers, on_evaluation=told.append)
    with pytest.raises(LowGroundingError):
        GuardPolicy(min_grounding=1.0, on_low="raise").run(lvlm, chat(picture, ASKED), max_new_tokens=16)
    (guard,) = telemetry.spans("guardrail")
    assert dict(guard.attributes or {})["saliency_guard.decision"] == "raised"
    assert guard.status.is_unset
    assert [(evaluation.name, evaluation.label) for evaluation in told] == [
        ("grounding", "scored"),
        ("guardrail", "raised"),
    ]
    assert "below" in told[1].explanation


def test_a_check_has_one_span(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    answer = lvlm.score(chat(picture, ASKED), "It is there.")
    instrument(**telemetry.providers)
    GuardPolicy(min_grounding=0.5).check(answer)
    (guard,) = telemetry.spans()
    attributes = dict(guard.attributes or {})
    assert attributes["saliency_guard.decision"] == "unscored"
    assert attributes["saliency_guard.reason"] == answer.grounding_reason


def test_a_loop_of_a_framework_has_one_span(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    answer = lvlm.score(chat(picture, ASKED), "No, there is no pizza in the image.")
    instrument(**telemetry.providers)
    policy = GuardPolicy(min_grounding=0.5, max_retries=1)
    policy.planned_attempts()  # Only asked whether it can be: nothing was run.
    assert telemetry.spans() == []
    plan = policy.planned_attempts()
    next(plan)
    with pytest.raises(StopIteration) as end:
        plan.send(answer)
    (guard,) = telemetry.spans()
    assert dict(guard.attributes or {})["saliency_guard.decision"] == end.value.value.decision == "accepted"
    plan = policy.planned_attempts()
    next(plan)
    with pytest.raises(StopIteration):
        plan.send(None)
    assert "saliency_guard.decision" not in dict(telemetry.spans()[1].attributes or {})
    left = policy.planned_attempts()
    next(left)
    left.close()
    assert dict(telemetry.spans()[2].attributes or {})["saliency_guard.cancelled"] is True


def test_errors_end_the_span(picture: Image.Image, telemetry: Telemetry) -> None:
    instrument(**telemetry.providers)
    bare = LVLM.load().with_calibrator(None)
    with pytest.raises(ConfigError):
        GuardPolicy(min_grounding=0.5).run(bare, chat(picture, ASKED))
    (guard,) = telemetry.spans()
    assert dict(guard.attributes or {})["error.type"] == "ConfigError"
    assert not guard.status.is_ok
