from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def test_a_server_is_started_asked_and_ended(tmp_path: Path) -> None:
    out = run("bench", "serve", "--quick", "--clients", "2", "--out", str(tmp_path))
    assert "| 1 client |" in out
    assert "| 2 clients |" in out
    assert "saliency-guard bench serve --clients 2 --quick" in out
    (round_,) = json.loads((tmp_path / "result.json").read_text())["rounds"]
    assert (round_["one"]["tokens"], round_["several"]["tokens"]) == (4, 8)


def test_rough_results_are_not_published(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("<!-- begin serve -->\n<!-- end serve -->\n")
    assert "--page" in run("bench", "serve", "--quick", "--page", str(page), code=2)
