"""The command line, in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from saliency_guard.cli.app import app


def run(*arguments: str, code: int = 0) -> str:
    """What a command writes; it must end with ``code``."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "120"})
    assert result.exit_code == code, result.output
    return result.output
