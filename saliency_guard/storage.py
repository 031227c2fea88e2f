"""Files of ours: written whole or not at all, and read with an error that says what is wrong."""

from __future__ import annotations

import json
import math
import os
import secrets
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from saliency_guard.errors import InputError

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
        return read_model(kind, Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read a {name} from {path}: {error}"
        raise InputError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is no {name} of this version: {problem(error)}"
        raise InputError(msg) from error


def read_model(kind: type[Stored], text: str) -> Stored:
    """A model from JSON that says what it says: no name twice, no NaN, and no number too large to be one.

    Raises:
        ValueError: if it is other JSON, or none.
        ValidationError: if it is JSON of something else.
        RecursionError: if it is nested too deeply.
    """
    strict_json(text)
    return kind.model_validate_json(text)


def strict_json(text: str) -> Any:
    """What JSON says, refused where readers may disagree about it.

    Raises:
        ValueError: if it is not JSON, has a name twice in one object, or a number that is not finite.
        RecursionError: if it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_named_once, parse_float=_finite, parse_constant=_finite)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        msg = f"{next(name for name in names if names.count(name) > 1)!r} is named twice"
        raise ValueError(msg)
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text[:20]} is no finite number"
        raise ValueError(msg)
    return value


def problem(error: ValidationError | Exception) -> str:
    """The first thing that is wrong, and where."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
