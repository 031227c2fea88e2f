"""Files of ours: written whole or not at all, and read with an error that says what is wrong."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from saliency_guard.errors import ConfigError, InputError

Stored = TypeVar("Stored", bound=BaseModel)


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    target = Path(path)
    # A name of its own for every writer; tempfile would make the file private to its owner.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}") if target.name else target
    try:
        try:
            partial.write_bytes(content)
            partial.replace(target)
        finally:
            if partial != target:
                partial.unlink(missing_ok=True)
    except OSError as error:
        msg = f"cannot write {path or 'to an empty path'}: {error}"
        raise InputError(msg) from error


def save_model(model: BaseModel, path: str | os.PathLike[str]) -> None:
    """Write a model as JSON, whole or not at all."""
    replace_file(path, f"{model.model_dump_json()}\n".encode())


def load_model(kind: type[Stored], path: str | os.PathLike[str], name: str) -> Stored:
    """Read what `save_model` wrote.

    Args:
        kind: of model.
        path: of the file.
        name: what to call it in errors.

    Raises:
        InputError: if the file cannot be read, or holds something else or another version.
    """
    try:
        return kind.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read a {name} from {path}: {error}"
        raise InputError(msg) from error
    except (ValidationError, ConfigError) as error:
        msg = f"{path} is no {name} of this version: {problem(error)}"
        raise InputError(msg) from error


def problem(error: ValidationError | Exception) -> str:
    """The first thing that is wrong, and where."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
