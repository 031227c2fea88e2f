"""The command line's entry: ``saliency-guard ...``. The commands are in ``commands``, which needs the extra ``cli``."""

from __future__ import annotations

import sys

from saliency_guard.errors import MissingExtraError


def main() -> None:
    """Run the command line, or say which extra is missing."""
    try:
        from saliency_guard.cli.app import app  # noqa: PLC0415 - typer and rich are optional
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print(MissingExtraError(error.name, "cli"), file=sys.stderr)
        sys.exit(2)
    app()
