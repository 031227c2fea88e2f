"""Help and version: at once, because nothing heavy is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import run

import saliency_guard

HELP = ["", "ask", "score", "info", "records", "calibrate", "check", "serve", "eval", "eval pope", "eval chair"]
HELP += ["bench", "bench detection", "bench mitigation", "bench calibration", "bench speed", "bench serve"]


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import contextlib, io, sys
from saliency_guard.cli.app import app
for command in {HELP!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        app([*command.split(), "--help"], standalone_mode=False)
    assert "Usage" in out.getvalue(), command
print(sorted({{"torch", "transformers", "numpy", "PIL", "sklearn", "matplotlib"}} & sys.modules.keys()))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert out.stdout == "[]\n", out.stderr


def test_version() -> None:
    assert run("--version") == f"saliency-guard {saliency_guard.__version__}\n"


def test_python_m_runs_the_same_program() -> None:
    command = [sys.executable, "-m", "saliency_guard.cli", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == run("--version")  # noqa: S603


@pytest.mark.parametrize("command", HELP)
def test_every_command_says_what_it_does(command: str) -> None:
    assert "Usage" in run(*command.split(), "--help")
