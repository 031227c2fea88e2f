from __future__ import annotations

import json
import math

import pytest

from saliency_guard.cli.shared import json_text


def test_json_is_strict() -> None:
    result = {"a": math.nan, "b": [1.5, -math.inf], "c": {"d": (2, "x", None, True)}}
    assert json.loads(json_text(result)) == {"a": None, "b": [1.5, None], "c": {"d": [2, "x", None, True]}}


def test_json_has_no_control_characters_that_a_terminal_acts_on() -> None:
    result = {"text": "\x9b2J caf\u00e9 \x7f \x1b[0m \x85"}
    text = json_text(result)
    assert json.loads(text) == result
    assert all(sign == "\n" or sign.isprintable() for sign in text)
    assert "caf\u00e9" in text


@pytest.mark.parametrize("command", [["--pictures", "0"], ["--pictures", "-1"], ["--max-new-tokens", "0"]])
def test_numbers_that_mean_nothing_are_refused(command: list[str]) -> None:
    from typer.testing import CliRunner

    from saliency_guard.cli.app import app

    assert CliRunner().invoke(app, ["bench", "detection", *command]).exit_code == 2
