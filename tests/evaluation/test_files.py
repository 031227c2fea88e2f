"""The standard files, and a run that is cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from saliency_guard import InputError
from saliency_guard.errors import ImageError
from saliency_guard.evaluation.files import read_instances, read_pope
from saliency_guard.evaluation.journal import Journal


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def pope_file(folder: Path, *rows: object) -> Path:
    path = folder / "pope.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_pope_questions_are_read(tmp_path: Path, images: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a dog in the image?", "label": "yes"}
    path = pope_file(tmp_path, row, "", {**row, "question_id": 2, "label": "No"})
    one, two = read_pope(path, images)
    assert (one.question_id, one.truth, two.truth) == ("1", True, False)
    assert one.image == images / "a.png"


def test_a_bad_pope_file_is_named_with_its_line(tmp_path: Path, images: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a dog?", "label": "yes"}
    for bad, message in (
        ("not json", "line 2"),
        ({"question_id": 2}, "line 2"),
        ({**row, "question_id": 2, "label": "maybe"}, "'maybe', not yes or no"),
        (row, "1 of them"),
    ):
        with pytest.raises(InputError, match=message):
            read_pope(pope_file(tmp_path, row, bad), images)
    with pytest.raises(InputError, match="cannot read"):
        read_pope(tmp_path / "nowhere.jsonl", images)
    with pytest.raises(InputError, match="0 questions"):
        read_pope(pope_file(tmp_path, ""), images)
    with pytest.raises(ImageError, match="1 pictures are not there"):
        read_pope(pope_file(tmp_path, {**row, "image": "c.png"}), images)


INSTANCES = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"image_id": 1, "category_id": 18, "iscrowd": 0},
        {"image_id": 1, "category_id": 18, "iscrowd": 1},
        {"image_id": 1, "category_id": 3},
    ],
}


def test_instances_are_read(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(INSTANCES))
    one, two = read_instances(path, images)
    assert one.shown == {"dog", "car"}
    assert two.shown == frozenset()
    for bad in ({}, {**INSTANCES, "images": [{"id": 1}]}, {**INSTANCES, "annotations": [{"image_id": 9}]}, []):
        path.write_text(json.dumps(bad))
        with pytest.raises(InputError, match="no COCO instances file"):
            read_instances(path, images)
    path.write_text(json.dumps({**INSTANCES, "images": [], "annotations": []}))
    with pytest.raises(InputError, match="no images"):
        read_instances(path, images)


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.jsonl"
    settings = {"model": "m", "sgrs": None}
    first = Journal(path, settings)
    odd = "a dög\u2028and\x85more"
    first.add("1", {"text": odd})
    first.add("2", {"text": "b"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + "ö".encode()[:1])  # Cut off within the last line, within a character.
    second = Journal(path, settings)
    assert second.results == {"1": {"key": "1", "text": odd}}
    second.add("2", {"text": "b"})
    assert path.read_bytes() == whole


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Journal(path, {"model": "m", "sgrs": None})
    with pytest.raises(InputError, match=r"other settings \(model, sgrs\)"):
        Journal(path, {"model": "n", "sgrs": {"alpha": 0.6}})
    path.write_text("something else\n")
    with pytest.raises(InputError, match="no journal"):
        Journal(path, {})
