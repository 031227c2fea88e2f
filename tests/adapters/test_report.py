"""Reports of answers: plain values, with and without a policy."""

from __future__ import annotations

import json

from PIL import Image

from saliency_guard import LVLM, GuardPolicy
from saliency_guard.adapters.report import answer_report, token_report
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE


def test_a_report_is_plain_values(lvlm: LVLM, picture: Image.Image) -> None:
    answer = lvlm.score(chat(picture, DESCRIBE), "There is a zebra.")
    plain = answer_report(answer)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["tokens"] == [token_report(token) for token in answer.tokens]
    assert (plain["decision"], plain["threshold"], plain["attempts"]) == (None, None, [])
    outcome = GuardPolicy(min_grounding=1.0).check(answer)
    decided = answer_report(outcome.answer, outcome)
    assert set(decided) == set(plain)
    assert (decided["decision"], decided["threshold"]) == ("flagged", 1.0)
    assert [attempt["text"] for attempt in decided["attempts"]] == [answer.text]


def test_a_plain_text_has_no_scores() -> None:
    report = answer_report(None)
    assert (report["grounding"], report["calibrated"], report["tokens"], report["shares"]) == (None, False, [], {})
