from __future__ import annotations

import json

from saliency_guard import Usage
from saliency_guard.server.record import RequestRecord, new_id, record_of


def test_a_record_adds_up_and_is_found_again() -> None:
    record = RequestRecord("/v1/score", "POST")
    scope: dict[str, object] = {}
    record.of(scope)
    assert record_of(scope) is record
    for _ in range(2):
        record.used(Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5))
    assert (record.prompt_tokens, record.completion_tokens) == (6, 4)
    assert record.first_token_seconds is None
    record.token()
    first = record.first_token_seconds
    record.token()
    assert record.first_token_seconds == first


def test_its_line_holds_contents_only_where_they_were_put_in() -> None:
    record = RequestRecord("/v1/score", "POST")
    line = json.loads(json.dumps(record.line()))
    assert line["event"] == "request"
    assert "answers" not in line
    record.contents = {"answers": ["A cat."]}
    assert record.line()["answers"] == ["A cat."]


def test_ids_differ() -> None:
    assert new_id("x").startswith("x-")
    assert new_id("x") != new_id("x")
