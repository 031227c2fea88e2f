"""The command line, in this process."""

from __future__ import annotations

from click.testing import Result
from typer.testing import CliRunner

from saliency_guard.cli.app import app


def run(*arguments: str, code: int = 0) -> str:
    """What a command writes; it must end with ``code``."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    return result.output


def invoke(*arguments: str) -> Result:
    """What came of a command, however it ended."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "120"})
