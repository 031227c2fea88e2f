"""Files: written whole or not at all; read only where they are files, and of a size that was foreseen."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from saliency_guard.errors import InputError, shown

Stored = TypeVar("Stored", bound=BaseModel)

MAX_SETTINGS_BYTES = 100_000_000
"""The largest calibration or policy that is read."""

MAX_DATA_BYTES = 4_000_000_000
"""The largest file of records, questions or annotations that is read."""

_PIECE = 1 << 20
# A FIFO would wait for a writer, and a terminal would become the process's own.
_OPENING = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


def open_file(path: str | os.PathLike[str], *, max_bytes: int = MAX_DATA_BYTES, name: str = "") -> io.BufferedReader:
    """Open a regular file to read it; nothing else is opened, and nothing is waited for.

    Args:
        path: of the file.
        max_bytes: a larger file is refused before anything of it is read.
        name: what to call what it holds in errors.

    Raises:
        InputError: if there is no such file, it is a folder, a FIFO, a device or a socket, or it is too large.
    """
    called = _called(path, name)
    try:
        _require_regular(Path(path).stat(), called, max_bytes)  # Some devices act on being opened alone.
        file = os.fdopen(os.open(path, _OPENING), "rb")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        msg = f"{called}: {error}"
        raise InputError(msg) from error
    try:
        _require_regular(os.fstat(file.fileno()), called, max_bytes)  # It may be another file by now.
    except InputError:
        file.close()
        raise
    return file


def read_file(path: str | os.PathLike[str], *, max_bytes: int = MAX_DATA_BYTES, name: str = "") -> bytes:
    """The bytes of a regular file; arguments and errors as for `open_file`."""
    called = _called(path, name)
    with open_file(path, max_bytes=max_bytes, name=name) as file:
        try:
            pieces = [file.read(os.fstat(file.fileno()).st_size)]
            size = len(pieces[0])
            while size <= max_bytes and (piece := file.read(_PIECE)):  # It has grown since, or says no size.
                pieces.append(piece)
                size += len(piece)
        except OSError as error:
            msg = f"{called}: {error}"
            raise InputError(msg) from error
    _require_size(size, called, max_bytes)
    return b"".join(pieces)


def read_text(path: str | os.PathLike[str], *, max_bytes: int = MAX_DATA_BYTES, name: str = "") -> str:
    """The text of a regular file in UTF-8; arguments and errors as for `open_file`."""
    content = read_file(path, max_bytes=max_bytes, name=name)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        msg = f"{_called(path, name)}: {error}"
        raise InputError(msg) from error


def digest_of(path: str | os.PathLike[str], *, max_bytes: int = MAX_DATA_BYTES) -> str:
    """A short hash of a file's content; errors as for `open_file`."""
    with open_file(path, max_bytes=max_bytes) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _called(path: str | os.PathLike[str], name: str) -> str:
    """The beginning of every error of reading."""
    if not isinstance(path, (str, os.PathLike)):  # A number would be taken for a file that is open already.
        msg = f"a path is a text or a Path, not {shown(path)}"
        raise InputError(msg)
    return f"cannot read {f'{name} from ' if name else ''}{str(path)[:300]!r}"


def _require_regular(status: os.stat_result, called: str, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a FIFO, a device or a socket"
        msg = f"{called}: it is no file but {kind}"
        raise InputError(msg)
    _require_size(status.st_size, called, max_bytes)


def _require_size(size: int, called: str, max_bytes: int) -> None:
    if size > max_bytes:
        msg = f"{called}: its {size} bytes are over the limit of {max_bytes}"
        raise InputError(msg)


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    """A JSON document.

    Args:
        text: the document.
        **hooks: for `json.loads`.

    Raises:
        ValueError: if it is none, or nested too deeply.
    """
    try:
        return json.loads(text, **hooks)
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error


def complete_lines(path: Path) -> bytes | None:
    """The lines of a file that is written line by line; None where it has none yet.

    A last line without a line break was being written when the run was interrupted, and is left out.
    """
    content = read_file(path) if path.exists() else b""
    return content[: content.rfind(b"\n") + 1] or None


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
    content = read_file(path, max_bytes=MAX_SETTINGS_BYTES, name=f"a {name}")
    try:
        return read_model(kind, content)
    except ValueError as error:
        msg = f"{path} is no {name} of this version: {problem(error)}"
        raise InputError(msg) from error


def read_model(kind: type[Stored], text: str | bytes) -> Stored:
    """A model from JSON that says what it says: no name twice, no NaN, and no number too large to be one.

    Raises:
        ValueError: if it is other JSON, none, or JSON of something else.
    """
    strict_json(text)
    return kind.model_validate_json(text)


def strict_json(text: str | bytes) -> Any:
    """What JSON says, refused where readers may disagree about it.

    Raises:
        ValueError: if it is not JSON, nested too deeply, or has a name twice or a number that is not finite.
    """
    return parse_json(text, object_pairs_hook=_named_once, parse_float=_finite, parse_constant=_finite)


def json_value(value: Any) -> Any:
    """A plain value as strict JSON can say it: NaN and infinities (a ratio with a denominator of 0) become null."""
    if isinstance(value, Mapping):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            msg = f"{shown(name)} is named twice"
            raise ValueError(msg)
        members[name] = value
    return members


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
