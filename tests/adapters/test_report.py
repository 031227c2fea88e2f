"""Reports of answers: plain values, with and without a policy, and no refused text unless it is asked for."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from saliency_guard import LVLM, GuardPolicy, LowGroundingError, SignalRule
from saliency_guard.adapters.report import answer_report, raised_report, token_report
from saliency_guard.adapters.unjudged import unscored_attempt
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE

KEYS = {"score", "calibrated", "reason", "decision", "threshold", "claims", "shares", "attempts"}
FALSE = "There is a zebra."


def test_a_report_is_plain_values(lvlm: LVLM, picture: Image.Image) -> None:
    answer = lvlm.score(chat(picture, DESCRIBE), FALSE)
    plain = answer_report(answer)
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain) == KEYS
    assert (plain["score"], plain["decision"], plain["threshold"]) == (answer.grounding, None, None)
    outcome = GuardPolicy(min_grounding=1.0).check(answer)
    decided = answer_report(outcome.answer, outcome)
    assert set(decided) == KEYS
    assert (decided["decision"], decided["threshold"]) == ("flagged", 1.0)
    (attempt,) = decided["attempts"]
    assert (attempt["attempt"], attempt["verdict"], attempt["score"]) == (0, "refused", answer.grounding)
    assert attempt["reason"] == decided["reason"]


def test_tokens_and_refused_texts_are_there_where_they_are_asked_for(lvlm: LVLM, picture: Image.Image) -> None:
    answer = lvlm.score(chat(picture, DESCRIBE), FALSE, signals=("entropy",))
    policy = GuardPolicy(rules=(SignalRule("logprob", below=0.0),))
    outcome = policy.check(answer)
    assert "zebra" not in json.dumps(answer_report(None, outcome))
    with_tokens = answer_report(answer, outcome, detail="tokens")
    assert with_tokens["tokens"] == [token_report(token) for token in answer.tokens]
    assert "text" not in with_tokens["attempts"][0]
    full = answer_report(answer, outcome, detail="full")
    assert [attempt["text"] for attempt in full["attempts"]] == [FALSE]


def test_a_score_that_is_absent_has_a_reason(lvlm: LVLM, picture: Image.Image) -> None:
    report = answer_report(None)
    assert (report["score"], report["calibrated"], report["shares"]) == (None, False, {})
    assert report["reason"]
    answer = lvlm.with_calibrator(None).score(chat(picture, DESCRIBE), FALSE)
    assert "calibration" in answer_report(answer)["reason"]
    outcome = GuardPolicy(min_grounding=0.5).decide((unscored_attempt("A cup.", "the scorer is broken"),))
    assert answer_report(outcome.answer, outcome)["reason"] == "the scorer is broken"


def test_what_was_raised_is_reported_without_its_text(lvlm: LVLM, picture: Image.Image) -> None:
    answer = lvlm.score(chat(picture, DESCRIBE), FALSE)
    with pytest.raises(LowGroundingError) as raised:
        GuardPolicy(min_grounding=1.0, on_low="raise").check(answer)
    report = raised_report(raised.value)
    assert set(report) == KEYS
    assert (report["decision"], report["threshold"], len(report["attempts"])) == ("raised", 1.0, 1)
    assert "zebra" not in json.dumps(report)
