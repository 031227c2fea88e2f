"""Records that are written one by one: a run that was cut off goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

from saliency_guard.calibration.records import GroundingRecord, Records
from saliency_guard.errors import InputError
from saliency_guard.evaluation.files import output_folder
from saliency_guard.storage import complete_lines, replace_file

Key = tuple[str, str, int]
"""Picture, question and draw of a record."""


def key_of(record: GroundingRecord) -> Key:
    """What tells a record from the others of a run."""
    return record.picture, record.question, record.draw


class RecordFile:
    """A file of records in the making; until it is finished it has ``.part`` after its name.

    Args:
        path: the file.
        empty: records of the run, without any: whose they are, and how they are made.
        extends: whether the records of a finished run like this one are kept, and further ones added.

    Raises:
        InputError: if there are records of another run in the part file.
    """

    def __init__(self, path: Path, empty: Records, *, extends: bool = False) -> None:
        output_folder(path.parent)
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._empty = empty
        self._records: dict[Key, GroundingRecord] = {}
        complete = complete_lines(self._part)
        if complete is None and extends:
            complete = self._finished()
        if complete is None:
            replace_file(self._part, f"{empty.header()}\n".encode())
        else:
            self._read(complete)

    def _finished(self) -> bytes | None:
        """The records of a finished run with the same settings, copied to the part file."""
        content = complete_lines(self._path)
        if content is None or content.split(b"\n", 1)[0].decode() != self._empty.header():
            return None
        replace_file(self._part, content)
        return content

    def _read(self, complete: bytes) -> None:
        header = complete.split(b"\n", 1)[0].decode()
        if header != self._empty.header():
            msg = f"{self._part} holds records of another run (another model or other settings): delete it, or choose "
            raise InputError(msg + "another --out")
        if len(complete) != self._part.stat().st_size:
            replace_file(self._part, complete)
        self._records = {key_of(record): record for record in Records.load(self._part)}

    @property
    def done(self) -> frozenset[Key]:
        """What is there already."""
        return frozenset(self._records)

    def add(self, record: GroundingRecord) -> None:
        """Append a record; it is on disk when this returns."""
        with self._part.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
        self._records[key_of(record)] = record

    def finish(self) -> Records:
        """All records, in the file itself."""
        records = Records(
            self._empty.fingerprint,
            self._records.values(),
            generation=self._empty.generation,
            verify=self._empty.verify,
        )
        self._part.replace(self._path)
        return records
