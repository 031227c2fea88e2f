from __future__ import annotations

import json
import math

import pytest

from saliency_guard.cli.shared import as_json


def test_json_is_strict() -> None:
    result = {"a": math.nan, "b": [1.5, -math.inf], "c": {"d": (2, "x", None, True)}}
    assert json.loads(as_json(result)) == {"a": None, "b": [1.5, None], "c": {"d": [2, "x", None, True]}}


@pytest.mark.parametrize("command", [["--pictures", "0"], ["--pictures", "-1"], ["--max-new-tokens", "0"]])
def test_numbers_that_mean_nothing_are_refused(command: list[str]) -> None:
    from typer.testing import CliRunner

    from saliency_guard.cli.app import app

    assert CliRunner().invoke(app, ["bench", "detection", *command]).exit_code == 2
