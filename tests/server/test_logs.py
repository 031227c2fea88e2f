from __future__ import annotations

import json
import logging

from saliency_guard.server.logs import JsonFormatter


def test_a_record_is_a_line_of_json() -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "a\n%s", "args": ("ü",), "status": 200})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert told["message"] == "a\nü"
    assert (told["level"], told["logger"], told["status"]) == ("info", "x", 200)


def test_an_error_is_told_by_its_place_and_not_by_what_it_quotes() -> None:
    try:
        raise ValueError("what a user wrote")  # noqa: TRY301, EM101 - caught here
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, error, error.__traceback__)})
    line = JsonFormatter().format(record)
    assert "what a user wrote" not in line
    told = json.loads(line)
    assert told["exception"] == "ValueError"
    assert "test_logs.py" in told["traceback"][0]
