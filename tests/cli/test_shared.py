from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from saliency_guard import LVLM
from saliency_guard.cli.shared import as_json, weights_of
from saliency_guard.embedded import EMBEDDED


def test_json_is_strict() -> None:
    result = {"a": math.nan, "b": [1.5, -math.inf], "c": {"d": (2, "x", None, True)}}
    assert json.loads(as_json(result)) == {"a": None, "b": [1.5, None], "c": {"d": [2, "x", None, True]}}


def test_weights_have_a_name_that_changes_with_them(lvlm: LVLM, tmp_path: Path) -> None:
    shipped = weights_of(EMBEDDED, lvlm)
    assert len(shipped) == 16
    assert weights_of(EMBEDDED, lvlm) == shipped
    (tmp_path / "model.safetensors").write_bytes(b"one")
    one = weights_of(str(tmp_path), lvlm)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert len({shipped, one, weights_of(str(tmp_path), lvlm)}) == 3


@pytest.mark.parametrize("command", [["--pictures", "0"], ["--pictures", "-1"], ["--max-new-tokens", "0"]])
def test_numbers_that_mean_nothing_are_refused(command: list[str]) -> None:
    from typer.testing import CliRunner

    from saliency_guard.cli.app import app

    assert CliRunner().invoke(app, ["bench", "detection", *command]).exit_code == 2
