"""The command line: ``saliency-guard ...``. Its commands need the extra ``cli`` (typer, rich).

Modules here import torch, transformers and what needs them inside their commands only, so that help answers at once.
"""

from __future__ import annotations

import sys

from saliency_guard.errors import MissingExtraError


def main() -> None:
    """Run the command line, or say which extra is missing."""
    try:
        from saliency_guard.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print(MissingExtraError(error.name, "cli"), file=sys.stderr)
        sys.exit(2)
    app()
