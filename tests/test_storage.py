"""Files: only regular ones of a foreseen size are read, and they say one thing, to every reader."""

from __future__ import annotations

import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saliency_guard import Calibrator, GuardPolicy, InputError, Records
from saliency_guard.evaluation.detection import MentionTable
from saliency_guard.evaluation.files import read_instances, read_pope
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.labelled import read_labelled
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.questions import picture_name
from saliency_guard.storage import (
    MAX_DATA_BYTES,
    MAX_SETTINGS_BYTES,
    open_file,
    parse_json,
    read_file,
    read_text,
    strict_json,
)

READERS: dict[str, Callable[[Path], Any]] = {
    "open_file": open_file,
    "read_file": read_file,
    "read_text": read_text,
    "calibration": Calibrator.load,
    "policy": GuardPolicy.load,
    "records": Records.load,
    "pope": lambda path: read_pope(path, path.parent),
    "coco": lambda path: read_instances(path, path.parent),
    "labelled": read_labelled,
    "synonyms": ObjectVocabulary.coco,
    "picture_name": picture_name,
    "mentions": MentionTable.load,
    "journal": lambda path: Journal(path, {}),
}
JSON = ("calibration", "policy", "records", "pope", "coco", "labelled", "journal")


@pytest.fixture(params=list(READERS))
def read(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    return READERS[request.param]


@pytest.mark.parametrize("kind", ["fifo", "link to a fifo", "folder", "device", "socket"])
def test_only_files_are_read_and_nothing_is_waited_for(read: Callable[[Path], Any], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    server = socket.socket(socket.AF_UNIX)
    if kind.endswith("fifo"):
        os.mkfifo(path)
        if kind.startswith("link"):
            (tmp_path / "link").symlink_to(path)
            path = tmp_path / "link"
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        here = Path.cwd()
        os.chdir(tmp_path)  # The names of sockets are short.
        server.bind("file")
        os.chdir(here)
    with pytest.raises(InputError, match="cannot read"):  # Reading a pipe or a device would never end.
        read(path)
    server.close()


def test_files_over_the_limit_are_refused_unread(read: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, MAX_DATA_BYTES + 1)  # Sparse: it takes no room on the disk.
    tracemalloc.start()
    with pytest.raises(InputError, match="over the limit"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


@pytest.mark.parametrize("name", ["calibration", "policy"])
def test_settings_are_smaller_than_data(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, MAX_SETTINGS_BYTES + 1)
    with pytest.raises(InputError, match=f"limit of {MAX_SETTINGS_BYTES}"):
        READERS[name](path)


def test_a_file_that_is_another_one_by_then_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fifo = tmp_path / "file", tmp_path / "fifo"
    path.write_text("{}")
    os.mkfifo(fifo)
    opened = os.open

    def swapped(_: Any, *how: Any) -> int:
        return opened(fifo, *how)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(InputError, match="no file but a FIFO"):
        read_file(path)


def test_what_a_file_says_of_its_size_is_not_trusted() -> None:
    assert b"MemTotal" in read_file("/proc/meminfo")  # Its size is 0.
    with pytest.raises(InputError, match="limit of 10"):
        read_file("/proc/meminfo", max_bytes=10)


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000, 7, None, b"/etc/passwd", ["a"], "\ud800"])
def test_strange_paths_are_errors_of_ours(read: Callable[[Path], Any], path: Any) -> None:
    if read in (READERS["open_file"], READERS["read_file"], READERS["read_text"], Calibrator.load, Records.load):
        with pytest.raises(InputError, match=r"path|cannot read"):
            read(path)


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "1" * 5000,
        '{"id": ' + "1" * 5000 + "}",
        "\ufeff{",
        "NaN",
        "null",
        '"x"',
        "[]",
        '{"images": [{"id": [], "file_name": "a"}], "categories": [], "annotations": []}',
        '{"images":[{"id":1,"file_name":"a"}],"categories":[],"annotations":[{"image_id":[],"category_id":1}]}',
    ],
)
def test_json_of_any_form_is_an_error_of_ours(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(InputError):
        READERS[name](path)


def test_deep_json_says_so() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
    assert parse_json(b'{"a": 1}') == {"a": 1}


def test_text_is_read_as_python_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("\ufeffa\r\nb\rc\nü".encode())
    assert read_text(path) == "a\nb\nc\nü"
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot read words from"):
        read_text(path, name="words")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "'a' is named twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "'a' is named twice"),
        ("[NaN]", "NaN is no finite number"),
        ("[-Infinity]", "-Infinity is no finite number"),
        ("[1e999]", "1e999 is no finite number"),
        ("{} {}", "Extra data"),
        ("", "Expecting value"),
    ],
)
def test_what_readers_disagree_about_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        strict_json(text)


def test_a_name_is_found_twice_among_very_many() -> None:
    # Were each name looked for among all the others, this would take hours, and a request may hold as many.
    members = ",".join(f'"{number}":0' for number in range(500_000))
    with pytest.raises(ValueError, match="'499999' is named twice"):
        strict_json(f'{{{members},"499999":1}}')


def test_what_all_agree_about_is_read() -> None:
    assert strict_json('{"a": [1, 2.5, 1e3, null, true, "NaN"]}') == {"a": [1, 2.5, 1000.0, None, True, "NaN"]}
