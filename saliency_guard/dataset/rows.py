"""Records of a user's file: what is asked about which pictures, and perhaps an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saliency_guard.chat.fetch import scheme_of
from saliency_guard.chat.images import MAX_IMAGE_BYTES
from saliency_guard.chat.messages import chat_about
from saliency_guard.errors import ImageError, InputError, MessageError, require_extra, shown
from saliency_guard.storage import open_file, parse_json, read_file

_KEYS = {"id", "question", "messages", "image", "images", "answer"}
LARGEST = 1 << 50
"""Bytes of the largest file that is read: it is read record by record."""

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Row:
    """A record of a file.

    Attributes:
        number: its place in the file, from 0.
        id: what it is called; where it has no ``id``, its place from 1.
        content: the record, as it stands there; None where it cannot be read.
        problem: what is wrong with it; empty where nothing is known to be.
    """

    number: int
    id: str
    content: Mapping[str, Any] | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What a record asks, with its pictures loaded: it can be worked on where its files are not.

    Attributes:
        id: of the record.
        messages: chat messages.
        answer: the answer to score; None where one is to be written.
    """

    id: str
    messages: Sequence[Mapping[str, Any]]
    answer: str | None


def is_parquet(path: Path) -> bool:
    """Whether a file is read as parquet: by its name."""
    return path.suffix.casefold() in {".parquet", ".pq"}


def count_rows(path: Path) -> int:
    """How many records a file has.

    Raises:
        InputError: if it cannot be read.
        MissingExtraError: if it is parquet and pyarrow is not installed.
    """
    if is_parquet(path):
        with _parquet(path) as table:
            return int(table.metadata.num_rows)
    with open_file(path, max_bytes=LARGEST) as file:
        return sum(1 for line in file if line.strip())


def read_rows(path: Path) -> Iterator[Row]:
    """The records of a JSONL or parquet file, in order.

    A record that is damaged, or has the ``id`` of one before it, comes with what is wrong with it.

    Raises:
        InputError: if the file cannot be read.
        MissingExtraError: if it is parquet and pyarrow is not installed.
    """
    places: dict[str, int] = {}
    for number, content in enumerate(_parquet_rows(path) if is_parquet(path) else _json_rows(path)):
        row = _row(number, content)
        before = places.setdefault(row.id, number)
        if before != number:
            earlier = f"record {before + 1} has the same id: ids tell records apart"
            row = Row(number, row.id, None, row.problem or earlier)
        yield row


def _row(number: int, content: Any) -> Row:
    place = str(number + 1)
    if isinstance(content, _UnreadableError):
        return Row(number, place, None, str(content))
    if isinstance(content, ValueError):
        return Row(number, place, None, f"not a JSON object: {content}")
    if not isinstance(content, Mapping):
        return Row(number, place, None, f"not a JSON object but {shown(content)}")
    name = content.get("id")
    if name is None:
        return Row(number, place, content)
    if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
        return Row(number, place, None, f"its id must be a text or a whole number, not {shown(name)}")
    try:
        str(name).encode()
    except UnicodeEncodeError:  # Half of a surrogate pair: results could not be written under such an id.
        return Row(number, place, None, f"its id cannot be written in UTF-8: {shown(name)}")
    return Row(number, str(name), content)


def _json_rows(path: Path) -> Iterator[Any]:
    with open_file(path, max_bytes=LARGEST) as file:
        for line in file:
            if line.strip():
                try:
                    yield parse_json(line.decode("utf-8-sig"))
                except ValueError as error:  # That of a wrong encoding is one, too.
                    yield error


def _parquet(path: Path) -> Any:
    require_extra("pyarrow", "pyarrow", "parquet")
    from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an extra

    open_file(path, max_bytes=LARGEST).close()  # Says in our words what is no file.
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        msg = f"{path} is no parquet file: {error}"
        raise InputError(msg) from error


class _UnreadableError(ValueError):
    """A record that has no Python value."""


def _parquet_rows(path: Path) -> Iterator[Any]:
    from pyarrow import ArrowException  # noqa: PLC0415 - an extra

    with _parquet(path) as table:
        columns = [name for name in table.schema_arrow.names if name in _KEYS]
        batches = table.iter_batches(_ROWS_AT_ONCE, columns=columns)
        while True:
            try:
                batch = next(batches, None)
            except (ArrowException, OSError) as error:
                msg = f"{path} is damaged: {error}"
                raise InputError(msg) from error
            if batch is None:
                return
            try:
                rows = batch.to_pylist()
            except ValueError:  # Arrow's is one, too. Text that is not UTF-8, say: of which records?
                rows = [_plain(batch.slice(index, 1)) for index in range(batch.num_rows)]
            yield from rows


def _plain(batch: Any) -> Any:
    """The only record of a batch."""
    try:
        return batch.to_pylist()[0]
    except ValueError as error:  # Arrow's is one, too.
        return _UnreadableError(f"it cannot be read: {error}")


def load_question(row: Row, folder: Path) -> Question:
    """A record's messages with the bytes of its pictures, and its answer.

    Args:
        row: a record without a problem.
        folder: what paths of pictures are relative to.

    Raises:
        InputError: if it is of another form, or a picture is not there.
    """
    if row.content is None:
        raise InputError(row.problem)
    given = {name: value for name, value in row.content.items() if value is not None}
    answer = given.get("answer")
    if answer is not None and not isinstance(answer, str):
        msg = f"its answer must be a text, not {shown(answer)}"
        raise MessageError(msg)
    return Question(row.id, _messages(given, folder), answer)


def _messages(given: Mapping[str, Any], folder: Path) -> Sequence[Mapping[str, Any]]:
    if "messages" in given:
        if {"question", "image", "images"} & given.keys():
            msg = "it has messages and also a question or pictures: put all into messages"
            raise MessageError(msg)
        if not isinstance(given["messages"], list):
            msg = f"its messages must be a list, not {shown(given['messages'])}"
            raise MessageError(msg)
        return [_with_pictures(message, folder) for message in given["messages"]]
    question = given.get("question")
    if not isinstance(question, str):
        msg = (
            f"it has no question: give a text under 'question', or 'messages' (it has {', '.join(given) or 'nothing'})"
        )
        raise MessageError(msg)
    if "image" in given and "images" in given:
        msg = "it has both 'image' and 'images': give one of them"
        raise MessageError(msg)
    pictures = given["images"] if "images" in given else [given["image"]] if "image" in given else []
    if not isinstance(pictures, list):
        msg = f"its images must be a list, not {shown(pictures)}"
        raise MessageError(msg)
    return chat_about([_picture(picture, folder) for picture in pictures], question)


def _with_pictures(message: Any, folder: Path) -> Any:
    """A message whose pictures are loaded; what else is wrong with it is said where it is read."""
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
        return message
    return {**message, "content": [_part(part, folder) for part in message["content"]]}


def _part(part: Any, folder: Path) -> Any:
    if not isinstance(part, Mapping):
        return part
    # Parquet gives every part the fields of all of them.
    given = {name: value for name, value in part.items() if value is not None}
    for key in ("image", "path"):
        if given.get("type") == "image" and key in given:
            return {"type": "image", "image": _picture(given[key], folder)}
    return given


def _picture(picture: Any, folder: Path) -> Any:
    """The bytes of a picture; a URL with data, or one that is refused later, as it is."""
    if isinstance(picture, Mapping):  # The form that datasets of Hugging Face have.
        inside = picture.get("bytes")
        picture = inside if inside is not None else picture.get("path")
    if isinstance(picture, bytes):
        return picture
    if not isinstance(picture, str):
        msg = f"a picture must be a path, bytes or a data URL, not {shown(picture)}"
        raise ImageError(msg)
    if scheme_of(picture) in {"data", "http", "https"}:
        return picture
    return read_file(folder / picture, max_bytes=MAX_IMAGE_BYTES, name="an image")
